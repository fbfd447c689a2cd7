"""Runs the same federation by two executions and compares everything that is left."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lit_fed import FederatedModule, Payload
from lit_fed.data import FederatedDataModule
from lit_fed.federation import ClientExecution, FederationState, VectorizedClients, last_checkpoint
from tests.federation.toy import toy_trainer, without_times

TOLERANCE = 1e-9
"""How far apart weights of two runs in double precision may be.

Executions add the same numbers in different orders. A gradient here is a sum of at most about 10³ terms
of size 1 or less (rows · tokens · width), which rounding may move by 10³ · 2.2e-16. AdamW divides it by no less
than its ε of 1e-4 and multiplies it by a rate of 1e-2, hence by 10² at most; a run has at most 40 steps:
10³ · 2.2e-16 · 10² · 40 ≈ 1e-9. In single precision the same bound would be 0.5, and see nothing.
"""


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1, momentum=0.5)


def adamw(params: Any) -> torch.optim.Optimizer:
    """Its ε does not amplify the rounding of gradients next to zero."""
    return torch.optim.AdamW(params, lr=1e-2, eps=1e-4)


OPTIMIZERS = {"sgd": sgd, "adamw": adamw}


def run(
    module: FederatedModule,
    data: FederatedDataModule,
    folder: Path,
    execution: ClientExecution | None,
    ckpt_path: str | None = None,
    **settings: Any,
) -> FederationState:
    given = {
        "precision": "64-true",
        "max_rounds": 2,
        "clients_per_round": 1.0,
        "test_at_end": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
    }
    trainer = toy_trainer(folder, execution=execution, **given | settings)
    trainer.fit(module, data, ckpt_path)
    return trainer.federation


def assert_close(ours: Payload, theirs: Payload, tolerance: float = TOLERANCE) -> None:
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert ours.strings == theirs.strings
    for name, tensor in theirs.tensors.items():
        # Half precision may round either way.
        apart = 1e-3 if tensor.dtype == torch.float16 else tolerance
        torch.testing.assert_close(
            ours.tensors[name], tensor, rtol=0, atol=apart, msg=lambda m, n=name: f"{n}: {m}"
        )


def largest_difference(ours: Payload, theirs: Payload) -> float:
    assert ours.tensors.keys() == theirs.tensors.keys()
    apart = [(ours.tensors[n].double() - t.double()).abs() for n, t in theirs.tensors.items()]
    return max((float(difference.max()) for difference in apart if difference.numel()), default=0.0)


def assert_same_federation(
    module: Callable[[], FederatedModule],
    data: Callable[[], FederatedDataModule],
    folder: Path,
    at_once: int = 3,
    tolerance: float = TOLERANCE,
    second_round: bool = False,
    **settings: Any,
) -> FederationState:
    """Vectorised = sequential, in all that clients and server keep, and in all that is reported.

    Both run in double precision, in which a different order of summation is no matter.
    Of a ``second_round`` both begin with the same first one, whose rounding AdamW would amplify.
    """
    if second_round:
        first = {"max_rounds": 1, "enable_checkpointing": True}
        run(module(), data(), folder / "first", None, **settings | first)
        settings |= {"ckpt_path": str(last_checkpoint(folder / "first"))}
    theirs = run(module(), data(), folder / "sequential", None, **settings)
    ours = run(module(), data(), folder / "vectorized", VectorizedClients(at_once), **settings)
    assert_close(ours.broadcast, theirs.broadcast, tolerance)
    assert_close(ours.server, theirs.server, tolerance)
    assert ours.clients.keys() == theirs.clients.keys()
    for name, client in theirs.clients.items():
        assert (ours.clients[name].steps, ours.clients[name].rounds) == (
            client.steps,
            client.rounds,
        )
        assert_close(ours.clients[name].private, client.private, tolerance)
        assert_close(ours.clients[name].optimizer, client.optimizer, 10 * tolerance)
    assert (ours.ledger, ours.failures) == (theirs.ledger, theirs.failures)
    for mine, other in zip(without_times(ours.history), without_times(theirs.history), strict=True):
        assert mine.keys() == other.keys()
        for name, value in other.items():
            assert math.isclose(mine[name], value, rel_tol=1e-6, abs_tol=1e-7), name
    moved = [theirs.broadcast.tensors[n] for n in theirs.broadcast.tensors]
    assert all(bool(tensor.float().isfinite().all()) for tensor in moved)
    return ours
