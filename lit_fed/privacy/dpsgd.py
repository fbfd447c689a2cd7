"""DP-SGD: the settings of record-level differential privacy in clients' local training."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Final, Literal

import torch
from torch import nn

from lit_fed.limits import require_positive
from lit_fed.privacy.account import PrivacyAccount, require_opacus

_DELTA: Final = 1e-5
"""δ of clients that have not so many rows that it would be too large."""


class DPSGD:
    r"""Clients train by DP-SGD: what they send says little of any single one of their rows.

    Abadi et al., "Deep Learning with Differential Privacy", 2016, Algorithm 1, https://arxiv.org/abs/1607.00133, by
    Opacus (Yousefpour et al., 2021, https://arxiv.org/abs/2109.12298). In every step each of a client's n rows is drawn
    with probability q = `data.batch_size` / n, on its own; the gradient of each drawn row, of all terms of its loss
    together, is cut to the norm C, and noise is added to their sum:

    .. math::
        g = \frac{1}{q n} \Bigl( \sum_{i \in B} \min\bigl(1, C / \lVert \nabla \ell_i \rVert\bigr) \nabla \ell_i
            + \mathcal{N}(0, \sigma^2 C^2 I) \Bigr)

    which is what the method's optimizer gets, in place of the gradient of the mean. ℓ_i is the loss of row i alone,
    times its weight; in language models the mean over the row's own tokens. A step that draws no row is a step of
    noise. A round has as many steps as without privacy. `trainer.gradient_clip_val` bounds g after that, and is
    mostly better null.

    **What is promised**: all weights that a client sends in all rounds together are (ε, δ)-differentially private
    with regard to adding or removing one of its rows, against the server and everyone else. So is what is made of
    them: predictions, answers and prototypes that the trained model gives of other rows than the client's own, such
    as the answers of semantic consensus to public prompts (post-processing). After each round a client reports
    ``privacy/epsilon``, of its own rows, steps and rounds; ``privacy/epsilon/max`` is the most of any client so
    far. The account stays with the client, in checkpoints as well, so that a run that goes on goes on counting.

    **What is not**: the number of a client's rows, which q tells; the metrics that clients report, such as their
    training loss, and the words of their errors; what a method computes of a client's rows by other means than the
    trained model and sends; settings that were tuned on the rows. Several rows of one person count as several. As
    rows and noise are drawn from the run's seed, so that a run can be repeated, whoever knows the seed can take the
    noise away; ``secure_mode`` seeds torch's generator by the operating system instead, which makes it no
    cryptographic one.

    **Refused by name**: executions other than :class:`~lit_fed.federation.SequentialClients` (also within
    :class:`~lit_fed.federation.DistributedClients`), ``trainer.compile``, 16-mixed precision, several batches a
    step (a larger `data.batch_size` is the same step), packed rows, attachments that choose rows by a client's other
    rows (``compares_rows``, as :class:`~lit_fed.defenses.CUBE` and :class:`~lit_fed.defenses.ActivationClustering` do:
    one row more would change which others are trained on), batch normalisation, gradient checkpointing,
    optimizers that compute a step's loss twice, gradients of single terms, and losses that are no sum over the
    rows: terms of weights, or over the rows together. Terms over public rows, which say nothing of a client's own,
    are learnt from without noise where the method takes them within :func:`~lit_fed.losses.over_public_rows`;
    elsewhere they are refused.

    Args:
        max_grad_norm: C > 0.
        noise_multiplier: σ > 0. None: as much as `target_epsilon` takes.
        target_epsilon: ε that a client may have spent when it has taken part in all rounds. σ is computed for it in the
            client's first round, of its rows, the steps of a round and `trainer.max_rounds`. A client whose next steps
            would exceed it is left out of the round. None: `noise_multiplier` is given.
        delta: δ, below one over the number of a client's rows. None: min(1e-5, 1/(n + 1)), n being that number.
        accountant: How ε is computed; see :class:`~lit_fed.privacy.PrivacyAccount`.
        secure_mode: Whether rows and noise are drawn anew in every run, with noise that also hides its rounding; a
            run can then not be repeated.

    Raises:
        ModuleNotFoundError: If Opacus is not installed.
        ValueError: If a number is out of range, or not one of `noise_multiplier` and `target_epsilon` is given.

    Example:
        >>> round(DPSGD(target_epsilon=8.0).noise(sample_rate=0.1, steps=100), 2)
        1.0
        >>> DPSGD()
        Traceback (most recent call last):
        ValueError: one of `trainer.privacy.noise_multiplier` and `trainer.privacy.target_epsilon` is expected to be a
        number and the other null, but got None and None
    """

    def __init__(
        self,
        max_grad_norm: float = 1.0,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        delta: float | None = None,
        accountant: Literal["rdp", "prv"] = "rdp",
        secure_mode: bool = False,
    ) -> None:
        if (noise_multiplier is None) == (target_epsilon is None):
            raise ValueError(
                "one of `trainer.privacy.noise_multiplier` and `trainer.privacy.target_epsilon` is expected to be a "
                f"number and the other null, but got {noise_multiplier!r} and {target_epsilon!r}"
            )
        self.max_grad_norm = require_positive("trainer.privacy.max_grad_norm", max_grad_norm)
        for name, value in (
            ("noise_multiplier", noise_multiplier),
            ("target_epsilon", target_epsilon),
        ):
            if value is not None:
                require_positive(f"trainer.privacy.{name}", value)
        if delta is not None and not 0 < delta < 1:
            raise ValueError(
                f"`trainer.privacy.delta` is expected to be between 0 and 1, but got {delta!r}"
            )
        if accountant not in ("rdp", "prv"):
            raise ValueError(
                f"`trainer.privacy.accountant` is expected to be 'rdp' or 'prv', but got {accountant!r}"
            )
        require_opacus("trainer.privacy")
        self.noise_multiplier = noise_multiplier
        self.target_epsilon = target_epsilon
        self.delta = delta
        self.accountant = accountant
        self.secure_mode = secure_mode

    def delta_of(self, rows: int) -> float:
        """δ of a client.

        Args:
            rows: n, how many rows it has.

        Example:
            >>> privacy = DPSGD(noise_multiplier=1.0)
            >>> privacy.delta_of(500), privacy.delta_of(399_999)
            (1e-05, 2.5e-06)
        """
        return min(_DELTA, 1 / (rows + 1)) if self.delta is None else self.delta

    def account(self, rows: int = 1) -> PrivacyAccount:
        """A client's account before its first step.

        Args:
            rows: How many rows it has.
        """
        return PrivacyAccount(self.delta_of(rows), self.accountant)

    def noise(self, sample_rate: float, steps: int, rows: int = 1) -> float:
        """σ of a client.

        Args:
            sample_rate: q.
            steps: Its steps in all rounds.
            rows: How many rows it has.

        Raises:
            ValueError: If no noise is enough for the target.
        """
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        if self.target_epsilon is None:
            raise ValueError("`trainer.privacy.target_epsilon` is expected to be a number")
        delta = self.delta_of(rows)
        return _noise(self.target_epsilon, delta, sample_rate, steps, self.accountant)

    def check_model(self, module: nn.Module) -> None:
        """Say before training what of a model keeps the gradients of rows from being told apart.

        Args:
            module: The method with its backbones.

        Raises:
            ValueError: If there is something.
        """
        for name, part in module.named_modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                raise ValueError(
                    "`trainer.privacy` expects a model whose rows do not change each other, but it has "
                    f"{type(part).__name__} ({name})"
                )
            if getattr(part, "gradient_checkpointing", False):
                raise ValueError(
                    "`model.backbone.gradient_checkpointing` is expected to be false with `trainer.privacy`, which "
                    "takes the gradients of rows where they are computed"
                )

    def check_rows(self, client: str, rows: int) -> None:
        """Say whether δ is small enough for a client.

        Args:
            client: Its id.
            rows: How many rows it has.

        Raises:
            ValueError: If δ is not below one over their number.
        """
        if rows and self.delta is not None and self.delta >= 1 / rows:
            raise ValueError(
                f"`trainer.privacy.delta` is expected to be below one over the number of a client's rows, {rows:,} of "
                f"{client!r}, but got {self.delta!r}"
            )

    def generator(self, device: torch.device, seed: int) -> torch.Generator:
        """What rows or noise are drawn from.

        Args:
            device: Where.
            seed: Of the place in the run; not used in secure mode.
        """
        generator = torch.Generator(device)
        if self.secure_mode:
            generator.seed()  # of the operating system's random numbers
        else:
            generator.manual_seed(seed)
        return generator


@lru_cache(maxsize=4096)
def _noise(epsilon: float, delta: float, sample_rate: float, steps: int, accountant: str) -> float:
    from opacus.accountants.utils import get_noise_multiplier

    # those between take nearly all the time, and without them there is a little more noise, never less
    halves = [order / 2 for order in range(3, 22)]
    orders = {"alphas": [*halves, *range(11, 64)]} if accountant == "rdp" else {}
    try:
        with warnings.catch_warnings():
            # of settings that are tried on the way
            warnings.filterwarnings("ignore", message="Optimal order is the")
            found: float = get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant=accountant,
                epsilon_tolerance=min(0.01, epsilon / 100),
                **orders,
            )
    except ValueError as error:
        raise ValueError(
            f"`trainer.privacy.target_epsilon` is expected to be within what noise can do at δ = {delta:g}, sample "
            f"rate {sample_rate:.3g} and {steps} steps, but got {epsilon!r}"
        ) from error
    return found
