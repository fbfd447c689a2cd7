"""How far two runs' last checkpoints are apart: ``python -m tools.compare_runs runs/a runs/b``."""

from __future__ import annotations

import sys
from pathlib import Path

from lit_fed.checkpoint_files import checkpoint_in
from lit_fed.federation.run.checkpoint import load_checkpoint


def differences(one: Path, other: Path) -> dict[str, float]:
    """The largest absolute difference of each tensor of the global state, and of each of the last round's metrics.

    Args:
        one: A run's folder, or a checkpoint's.
        other: Another one of the same method and model.

    Raises:
        FileNotFoundError: If one of them is neither.
        ValueError: If their global states have other names, shapes or rounds.
    """
    states = [load_checkpoint(checkpoint_in(path, "run")) for path in (one, other)]
    tensors = [dict(state.broadcast.tensors) for state in states]
    shapes = [{name: list(tensor.shape) for name, tensor in own.items()} for own in tensors]
    if shapes[0] != shapes[1] or states[0].round != states[1].round:
        raise ValueError(f"{one} and {other} are expected to be of one model and as many rounds")
    found = {
        name: float((tensor.double() - tensors[1][name].double()).abs().max())
        for name, tensor in tensors[0].items()
        if tensor.numel()
    }
    rows = [state.history[-1] if state.history else {} for state in states]
    common = [name for name in rows[0] if name in rows[1] and not name.startswith("time/")]
    return found | {name: abs(rows[0][name] - rows[1][name]) for name in common if "/" in name}


def main() -> None:
    """Print the differences, the largest last."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m tools.compare_runs RUN RUN")
    for name, apart in sorted(differences(*map(Path, sys.argv[1:])).items(), key=lambda i: i[1]):
        print(f"{apart:12.3e}  {name}")


if __name__ == "__main__":
    main()
