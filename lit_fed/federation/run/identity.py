"""Identity of a run: what has to be the same for it to go on as if it had never been broken off.

Part of it, each by its value or by a digest:

- the method's class and what it was made with, its rule of aggregation, teachers, consensus and perturbations
  included; the optimizer by its class and hyperparameters, as it is built, of each stage;
- the backbones: their frozen weights, configuration, tokenizer and adapter's configuration;
- the data: all values of the clients' rows, of validation, test and public rows, and which client holds which
  rows; the encoding, with the chat template that it takes of a tokenizer, the partitioner, and what makes batches of
  rows;
- of the trainer: ``seed``, ``precision``, ``clients_per_round``, ``rounds_per_task``, ``local_epochs``,
  ``local_steps``, ``accumulate_grad_batches``, ``gradient_clip_val``, ``gradient_clip_algorithm``,
  ``keep_optimizer_state``, ``limit_train_batches``, ``max_update_norm_ratio``, ``sampler`` and ``attachments``,
  ``privacy`` where there is some, and ``limit_val_batches`` where the aggregation goes by the clients' validation.

Free to change: ``max_rounds``; how and where clients are run (``execution``, ``accelerator``, ``devices``,
``num_nodes``, ``strategy``, ``compile``, ``client_state_mb``, ``data.num_workers``, ``data.eval_batch_size``,
``data.pad_to_multiple_of``, ``gradient_checkpointing``), which changes no result beyond the last digits; what is
evaluated, logged and written (``validate_clients``, ``check_val_every_n_rounds``, ``test_at_end``, the limits of
evaluation, ``callbacks``, ``loggers``, ``enable_progress_bar``, ``enable_checkpointing``, ``default_root_dir``,
``name``); and ``min_clients``, which decides only whether a run ends.

What Python does not tell is not seen: what a function does (an encoding's or an attachment's own code, or a
class of the same name), and attributes that a class has not from its constructor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch import LightningModule

from lit_fed.data import FederatedDataModule
from lit_fed.data.digest import rows_digest
from lit_fed.federation.run.description import described, described_optimizer
from lit_fed.module import FederatedModule
from lit_fed.saved_run import ENDS

if TYPE_CHECKING:
    from datasets import Dataset

TRAINER_SETTINGS: Final = (
    "seed",
    "precision",
    "clients_per_round",
    "rounds_per_task",
    "local_epochs",
    "local_steps",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "keep_optimizer_state",
    "limit_train_batches",
    "max_update_norm_ratio",
    "sampler",
    "attachments",
)
DATA_SETTINGS: Final = ("batch_size", "max_length", "bucketing", "tasks", "encoding", "partitioner")

# Not what a method was made with, but what it is at the moment.
_PASSING: Final = frozenset(
    {
        "backbone",
        "client",
        "datamodule",
        "gradient_clipper",
        "loaded_from",
        "make_optimizer",
        "metric_averager",
        "optimizer",
        "prepared",
        "stage",
        "timers",
        *vars(LightningModule()),
    }
)


class RunDiffers(ValueError):
    """A checkpoint is of a run with other data or settings; its message has a line for each difference."""


def identity_of(
    module: FederatedModule, data: FederatedDataModule, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What has to be the same for a run to go on; see above.

    Args:
        module: The method, before it is put on devices or divided among them.
        data: The clients' data.
        settings: The trainer's settings by name, ``precision`` among them.

    Returns:
        Values as JSON gives them back, by name.
    """
    identity = described("model", module, _PASSING)
    for name, backbone in module.backbones.items():
        identity |= described(f"model.{name}", backbone)
    parameters = [p for p in module.parameters() if p.requires_grad]
    for stage in module.stages:
        where = "model.optimizer"
        make = module.make_optimizer if stage.optimizer is None else stage.optimizer
        if len(module.stages) > 1:
            where = f"model.stages.{stage.name}.optimizer"
            plain = ("warmup_steps", "local_epochs", "local_steps")
            identity |= {f"model.stages.{stage.name}.{k}": getattr(stage, k) for k in plain}
        if parameters:
            identity |= described_optimizer(where, make, parameters)
    for name in DATA_SETTINGS:
        identity |= described(f"data.{name}", getattr(data, name))
    for name, backbone in module.backbones.items():
        if (template := data.encoding.digest(backbone.tokenizer)) is not None:
            identity[f"data.encoding of model.{name}"] = template
        if ends := data.encoding.stop_ids(backbone.tokenizer):
            identity[ENDS.format(name)] = ends
    identity |= _rows(data)
    names = list(TRAINER_SETTINGS)
    if module.needs_client_validation:
        names.append("limit_val_batches")
    if settings["privacy"] is not None:  # which checkpoints from before it do not have
        names.append("privacy")
    for name in names:
        identity |= described(f"trainer.{name}", settings[name])
    whole: dict[str, Any] = json.loads(json.dumps(identity))
    return whole


def _rows(data: FederatedDataModule) -> dict[str, str]:
    """All rows, and who holds which, by digests."""

    def told(rows: Dataset) -> str:
        return f"{len(rows):,} rows, {rows_digest(rows)}"

    held = hashlib.blake2b(digest_size=8)
    for client in data.clients:
        held.update(f"{client.id} {told(client.rows)}".encode())
        if client.validation is not None:
            held.update(told(client.validation).encode())
    count = sum(len(client.rows) for client in data.clients)
    train = f"{count:,} rows of {len(data.clients):,} clients, {held.hexdigest()}"
    tests = {f"data.test.{name}": rows for name, rows in data.tests.items()}
    sets = {"data.validation": data.validation, "data.public": data.public, **tests}
    found = {name: told(rows) for name, rows in sets.items() if rows is not None}
    return {"data.train": train, **found}


def differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    matters: Callable[[str], bool] = lambda name: True,
) -> dict[str, tuple[Any, Any]]:
    """What differs between two identities: both values by name, ``not set`` where there is none.

    Args:
        before: The run's that was broken off.
        now: That of the run that is to go on with it.
        matters: Whether a name is of interest. Default: each is.

    Example:
        >>> differences({"a.b": 1, "c": 2}, {"a.b": 3, "c": 2, "d": 4})
        {'a.b': (1, 3), 'd': ('not set', 4)}
        >>> differences({"a.b": 1, "c": 2}, {"a.b": 3, "c": 4}, lambda name: name == "c")
        {'c': (2, 4)}
        >>> differences({"clients_per_round": 1}, {"clients_per_round": 1.0})
        {'clients_per_round': (1, 1.0)}
    """
    found = {}
    for name in filter(matters, dict.fromkeys(chain(before, now))):
        pair = (before.get(name, "not set"), now.get(name, "not set"))
        # `1` and `1.0` are two things, as of trainer.clients_per_round
        if json.dumps(pair[0], sort_keys=True) != json.dumps(pair[1], sort_keys=True):
            found[name] = pair
    return found


def decides_predictions(module: FederatedModule) -> Callable[[str], bool]:
    """What of a run's identity has to be the same for its weights to predict the same: method and backbones.

    Args:
        module: The method.
    """
    own = tuple(f"model.{name}" for name in module.backbones if "." not in name)
    return lambda name: name in ("model", *own) or name.startswith(tuple(f"{o}." for o in own))


def difference_lines(found: Mapping[str, tuple[Any, Any]], most: int = 40) -> list[str]:
    """A line for each difference, those within something of another class left out.

    Example:
        >>> difference_lines({"model.rule": ("A", "B"), "model.rule.lr": (0.1, "not set")})
        ['`model.rule` is expected to be A as in the checkpoint, but is B']
    """
    lines = [
        f"`{name}` is expected to be {before} as in the checkpoint, but is {now}"
        for name, (before, now) in found.items()
        if not any(name.startswith(f"{outer}.") for outer in found)
    ]
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return [*lines[:most], *more]


def refuse_differences(folder: Path, lines: Sequence[str]) -> None:
    """Raise where a checkpoint is of a run that differs.

    Raises:
        RunDiffers: If there is a line.
    """
    if lines:
        raise RunDiffers(
            "\n".join(
                [
                    f"checkpoint {folder} is of a run with other data or settings:",
                    *(f"  {line}" for line in lines),
                    "  if that is meant, set `trainer.resume_with_changes` to true",
                ]
            )
        )
