"""torch.compile, kept only where it is measured to be faster."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info

from lit_fed.backbones.anatomy import largest_layer_list
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.results import ClientRound
from lit_fed.federation.client.trial import seconds, trial

_WARM_UP, _TURNS, _BATCHES = 2, 5, 4


def compile_where_faster(training: LocalTraining, start: ClientRound) -> float:
    """Compile the backbone's layers, time training steps with and without, by turns, and keep the faster.

    The steps are those of a client on its own batches, without an optimizer's step: nothing of them is
    left. Hooks, such as perturbations, are guarded: whatever changes is compiled anew.

    Args:
        training: Runs a client's round.
        start: What the client whose steps are timed starts from.

    Returns:
        The time of a compiled step as a share of one without, the median over the turns.
    """
    # else a hook that comes after the compilation, or goes, would not be seen
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    module = training.module
    # compiled one by one they share one compilation, and a language model's masks are left alone
    parts = largest_layer_list(module.backbone.model)
    for part in parts:
        part.compile(dynamic=True)
    compiled = [part._compiled_call_impl for part in parts]

    def use(calls: list[Any]) -> None:
        for part, call in zip(parts, calls, strict=True):
            part._compiled_call_impl = call

    eager: list[Any] = [None] * len(parts)
    for _ in range(_WARM_UP):
        for calls in (eager, compiled):
            use(calls)
            _seconds(training, start)
    ratios = []
    for _ in range(_TURNS):
        use(eager)
        without = _seconds(training, start)
        use(compiled)
        ratios.append(_seconds(training, start) / without)
    ratio = statistics.median(ratios)
    use(compiled if ratio < 1 else eager)
    rank_zero_info(
        f"torch.compile: a step takes {ratio:.2f} of the time without; "
        f"{'kept' if ratio < 1 else 'not kept'}"
    )
    return ratio


def _seconds(training: LocalTraining, start: ClientRound) -> float:
    """A few training steps' time."""
    with trial(training, start, _BATCHES) as steps:
        return seconds(steps, training.fabric.device)
