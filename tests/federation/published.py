"""What a run has published and kept, without what differs between two runs of the same work: times, and paths."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from lit_fed.checkpoint_files import is_whole, last_checkpoint
from lit_fed.digests import digest_of

_PASSING = ("seconds", "versions")
_UNLIKE = (".lock", ".locked_by.json", "config.yaml", "hparams.yaml")


def published(run: Path) -> dict[str, Any]:
    """All that a run has left in its folder, by what it is."""
    found: dict[str, Any] = {"names": sorted(_names(run))}
    last = last_checkpoint(run)
    if last is not None:
        assert is_whole(last), last
        state = json.loads((last / "state.json").read_text())
        del state[
            "reported"
        ]  # a run that was broken off before its last report has no later checkpoint
        found |= {f"state/{name}": one for name, one in _without_times(state).items()}
        for path in sorted(last.rglob("*.safetensors")):
            found[f"last/{path.relative_to(last)}"] = digest_of(path.read_bytes())
    for path in sorted(run.rglob("*.csv")):
        found[str(path.relative_to(run))] = _table(path)
    for path in sorted((run / "adapter").rglob("*.safetensors")):
        found[str(path.relative_to(run))] = digest_of(path.read_bytes())
    for name in ("summary.json", "checkpoints/best.json"):
        if (run / name).is_file():
            found[name] = _without_times(json.loads((run / name).read_text()))
    if list(run.glob("events.out.tfevents.*")):
        found |= {f"tensorboard/{tag}": events for tag, events in _curves(run).items()}
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """A line for each thing that differs."""
    return [
        f"{name}: {one.get(name)!r:.2000} is not {other.get(name)!r:.2000}"
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]


def _names(run: Path) -> set[str]:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    names = {name for name in names if "events.out.tfevents" not in name}
    # of clients' states in files only those count that a run goes on with
    return {n for n in names if Path(n).name not in _UNLIKE and not n.startswith(".client_states")}


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_times(one)
            for key, one in value.items()
            if not str(key).startswith("time/") and key not in _PASSING
        }
    if isinstance(value, list):
        return [_without_times(one) for one in value]
    return value


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {k: v for k, v in row.items() if k and not k.startswith("time/")}
            for row in csv.DictReader(file)
        ]


def _curves(run: Path) -> dict[str, Any]:
    """What TensorBoard shows: of steps that were logged by two processes only what came last."""
    kinds = ("scalars", "histograms", "images", "text")
    events = EventAccumulator(str(run), tensor_size_guidance=dict.fromkeys(kinds, 10_000))
    events.Reload()
    found: dict[str, Any] = {}
    for tag in events.Tags()["tensors"]:
        # the latter are the layout and the settings, which every fit gives
        if tag.startswith(("time/", "custom_scalars", "_hparams_")):
            continue
        shown = [(event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        drawn = tag == "task/matrix"
        found[tag] = [(step, None if drawn else value.tolist()) for step, value in shown]
    return found
