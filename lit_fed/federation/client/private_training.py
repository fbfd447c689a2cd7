"""A client's round by DP-SGD: rows drawn on their own, gradients of rows bounded, noise, and the account of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from lit_fed.client import Client
from lit_fed.federation.client.accumulation import Accumulation
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.local_batches import LocalBatch, limited, steps_and_epochs
from lit_fed.federation.client.local_training import LocalTraining, step_outputs
from lit_fed.federation.client.results import Finished
from lit_fed.federation.client.unprotected_steps import unprotected_steps
from lit_fed.federation.randomness import derive_seed
from lit_fed.losses import CountedMean, counted_means, sums_over_rows
from lit_fed.payload import Payload
from lit_fed.privacy import DPSGD, PrivacyAccount, PrivateGradient, require_sum_of_rows
from lit_fed.stage import Stage

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.optim import Optimizer

EPSILON: Final = "privacy/epsilon"
"""The metric in which a client reports what it has spent."""

_NOISE: Final = "noise_multiplier"
_EPSILON: Final = "epsilon"
_DELTA: Final = "delta"
# What is drawn, each by a stream that nothing else has, such as an attachment.
_ROWS, _GRADIENTS = 1, 2


class PrivateTraining(LocalTraining):
    """Runs a client's round on the resident module by DP-SGD; see :class:`~lit_fed.privacy.DPSGD`.

    Args:
        *args: As for :class:`LocalTraining`.
        privacy: How much is bounded and how much noise there is.
        **kwargs: As for :class:`LocalTraining`.
    """

    def __init__(self, *args: Any, privacy: DPSGD, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.privacy = privacy
        self._account: PrivacyAccount = privacy.account()
        self._sigma: float | None = None
        self._held = 1
        self._rate = self._expected = 1.0
        self._generator = torch.Generator()
        self._gradient: PrivateGradient | None = None
        self._taken: LocalBatch | None = None

    def _run(self, client: Client, broadcast: Payload, before: ClientState) -> Finished:
        _require_protected(client, before)
        self._held = len(self.data.client_data(client.id).rows)
        self._account = self.privacy.account(self._held)
        own = (_EPSILON, _DELTA, _NOISE)
        kept = [name for name in before.privacy.tensors if name not in own]
        self._account.load_state(before.privacy.select(kept))
        given = self.privacy.noise_multiplier
        found = before.privacy.tensors.get(_NOISE) if given is None else None
        # computed once for a target; a number that is given is the setting's
        self._sigma = given if found is None else float(found)
        finished = super()._run(client, broadcast, before)
        spent = self._account.epsilon()
        numbers = {_EPSILON: spent, _DELTA: self._account.delta}
        if self._sigma is not None and self.privacy.noise_multiplier is None:
            numbers[_NOISE] = self._sigma
        state = {n: torch.tensor(value, dtype=torch.float64) for n, value in numbers.items()}
        state |= self._account.state().tensors
        metrics = {**finished.update.metrics, EPSILON: spent}
        return Finished(
            replace(finished.update, metrics=metrics),
            replace(finished.state, privacy=Payload(state)),
        )

    def _run_stage(self, *args: Any) -> Optimizer:
        try:
            return super()._run_stage(*args)
        finally:
            if self._gradient is not None:
                self._gradient.close()
            self._gradient = self._taken = None

    def batches(
        self, client: Client, rows: Dataset, number: int, stage: Stage
    ) -> Iterator[LocalBatch]:
        """Batches in which each row is with the same probability, on its own; they may have no row.

        As many as there are without privacy, in passes of as many batches.

        Raises:
            ValueError: If there is no row, or the steps would spend more than the client may.
        """
        size = self.data.batch_size
        loader = self.data.dataloader(rows, self.module.tokenizer)
        self._rate = min(1.0, size / len(rows))
        self._expected = self._rate * len(rows)
        per_pass = limited(math.ceil(len(rows) / size), self.settings.limit_train_batches)
        steps = _steps(stage, self.settings, per_pass)
        if self._sigma is None:
            every = sum(_steps(one, self.settings, per_pass) for one in self.module.stages)
            steps_in_all = every * self.settings.max_rounds
            self._sigma = self.privacy.noise(self._rate, steps_in_all, self._held)
        self._require_within(client, steps)
        seed, place = self.settings.seed, (client.round, client.index, number)
        device = self.fabric.device
        self._generator = self.privacy.generator(
            device, derive_seed(seed, *place, 0, 0, _GRADIENTS)
        )
        draws = self.privacy.generator(torch.device("cpu"), derive_seed(seed, *place, 0, 0, _ROWS))
        return self._drawn(loader.dataset, draws, steps, per_pass)

    def _drawn(
        self, features: Any, draws: torch.Generator, steps: int, per_pass: int
    ) -> Iterator[LocalBatch]:
        from opacus.utils.uniform_sampler import UniformWithReplacementSampler

        sampler = UniformWithReplacementSampler(
            num_samples=len(features), sample_rate=self._rate, generator=draws, steps=steps
        )
        for step, positions in enumerate(sampler):
            # one row stands in where none is drawn, so that public rows are learnt from in every step
            batch = features.batch(positions or [0])
            epoch, index = divmod(step, per_pass)
            last = index == per_pass - 1
            yield DrawnBatch(batch, epoch, index, 0, 1, last, drawn=len(positions))

    def _require_within(self, client: Client, steps: int) -> None:
        target, sigma = self.privacy.target_epsilon, self._sigma
        if target is None or sigma is None:
            return
        after = self._account.epsilon_after(sigma, self._rate, steps)
        if after > target:
            raise ValueError(
                f"client {client.id!r} is expected to spend ε {target:g} at most (`trainer.privacy.target_epsilon`), "
                f"but has spent {self._account.epsilon():.4g} and would have spent {after:.4g} after {steps} more "
                "steps: there are more rounds, steps or rows than its noise was computed for in its first round"
            )

    def _forward_and_backward(
        self, local: LocalBatch, batch: dict[str, Tensor], optimizer: Any
    ) -> dict[str, Any]:
        module, timers = self.module, self.module.timers
        if self._taken is local:
            raise ValueError(
                "`model.optimizer` is expected to compute the loss of a step once with `trainer.privacy`, but "
                f"{type(optimizer.optimizer).__name__} does so again"
            )
        self._taken = local
        gradient = self._gradient or self._begin(optimizer.optimizer)
        count = len(next(iter(batch.values())))
        drawn = not isinstance(local, DrawnBatch) or local.drawn > 0
        self.events.report(module, "on_before_zero_grad", optimizer)
        module.optimizer_zero_grad(local.epoch, local.index, optimizer)
        with (
            timers("forward"),
            counted_means() as means,
            sums_over_rows(count, self._expected),
        ):
            outputs = step_outputs(self.loss(batch, local.index))
        if (loss := outputs["loss"]) is None:
            raise ValueError(
                "training_step is expected to return a loss with `trainer.privacy`, since whether it does may "
                "tell of the rows, but returned None"
            )
        require_sum_of_rows(loss, means, type(module).__name__)
        own, public = _divided(loss, means)
        with timers("backward"), _without_a_warning():
            self.events.report(module, "on_before_backward", loss)
            self.backward([own])
            free = self._public_gradients(gradient, public)
        with timers("privacy"):
            gradient.take(count, drawn)
            self._account.step(float(self._sigma or 0.0), self._rate)
            for parameter, more in zip(gradient.parameters, free, strict=True):
                if more is not None:
                    parameter.grad += more
        outputs = {**outputs, "loss": loss.detach()}
        self.events.report(module, "on_after_backward")
        return outputs

    @staticmethod
    def _public_gradients(
        gradient: PrivateGradient, loss: Tensor | None
    ) -> Sequence[Tensor | None]:
        """The gradients of the terms over public rows, which tell nothing of the client's and have no noise."""
        parameters = gradient.parameters
        if loss is None:
            return [None] * len(parameters)
        with gradient.elsewhere():
            found: Sequence[Tensor | None] = torch.autograd.grad(
                loss, parameters, allow_unused=True
            )
        return found

    def _begin(self, optimizer: Optimizer) -> PrivateGradient:
        """Take the gradients of rows from here on, of what the stage trains."""
        self._accumulation = Accumulation(())
        # the loss is divided by the expected number of rows, and what bounds its gradients with it
        self._gradient = PrivateGradient(
            self.module,
            optimizer,
            self.privacy.max_grad_norm / self._expected,
            float(self._sigma or 0.0),
            self._generator,
            self.privacy.secure_mode,
        )
        return self._gradient

    def gradients(self, loss: Tensor, by: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Refused.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "`trainer.privacy` expects methods and callbacks that take no gradients of single terms of a loss, which "
            f"have no noise, but some of {type(self.module).__name__} are asked for"
        )


@dataclass(frozen=True)
class DrawnBatch(LocalBatch):
    """A batch of rows that were drawn on their own.

    Attributes:
        drawn: How many were. 0: the batch has a row that stands in, and nothing of it is learnt.
    """

    drawn: int = 0


def _divided(loss: Tensor, means: Sequence[CountedMean]) -> tuple[Tensor, Tensor | None]:
    """The part of a loss over the client's rows and, where it has one, that over public rows.

    Args:
        loss: A loss that is linear in its means.
        means: The means.
    """
    if not any(mean.public for mean in means):
        return loss, None
    values = [mean.value for mean in means]
    slopes = torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True)
    parts: dict[bool, list[Tensor]] = {False: [loss.new_zeros(())], True: [loss.new_zeros(())]}
    for mean, slope in zip(means, slopes, strict=True):
        if slope is not None:
            parts[mean.public].append(slope * mean.value)
    return torch.stack(parts[False]).sum(), torch.stack(parts[True]).sum()


@contextmanager
def _without_a_warning() -> Iterator[None]:
    """Let torch not say that modules have inputs without a gradient, as the first adapter of a frozen model has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield


def _require_protected(client: Client, before: ClientState) -> None:
    """Refuse a client that has trained without noise, of which no account tells.

    Raises:
        ValueError: If it has.
    """
    steps = unprotected_steps(before.privacy) if before.privacy else before.steps
    if steps:
        raise ValueError(
            f"client {client.id!r} is expected to have trained with `trainer.privacy` alone, but has taken {steps} "
            "steps without it, for whose rows no ε is promised: begin a new run"
        )


def _steps(stage: Stage, settings: Any, per_pass: int) -> int:
    """The optimizer steps of a stage."""
    steps, epochs = steps_and_epochs(stage, settings)
    return steps if steps is not None else per_pass * (epochs or 0)


def epsilon_of(privacy: Payload) -> float:
    """ε that a client has spent, of the account in its state; 0 where it trains without privacy.

    It is infinite where a client with an account has trained without noise since.

    Args:
        privacy: The account; see :class:`~lit_fed.federation.client.client_state.ClientState`.

    Example:
        >>> epsilon_of(Payload())
        0.0
    """
    if unprotected_steps(privacy):
        return math.inf
    spent = privacy.tensors.get(_EPSILON)
    return 0.0 if spent is None else float(spent)


def delta_of(privacy: Payload) -> float | None:
    """δ of the ε that a client has spent; None where that is not known, as of checkpoints from before it was kept.

    Args:
        privacy: The account, as for :func:`epsilon_of`.

    Example:
        >>> print(delta_of(Payload()))
        None
    """
    held = privacy.tensors.get(_DELTA)
    return None if held is None else float(held)
