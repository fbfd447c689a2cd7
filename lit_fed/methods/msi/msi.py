"""MSI: modular structure injection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone
from lit_fed.limits import require_instance
from lit_fed.losses import StabilityMixin, WeightRegularizationMixin
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.methods.msi.injection import StructureInjection
from lit_fed.perturbations import GaussianNoise, Perturbation, Site


class MSI(StabilityMixin, WeightRegularizationMixin, AveragingMixin):
    r"""Modular structure injection (MSI).

    At every n-th of its own steps a client passes a batch a second time, with modules
    :math:`M_i(h) + \Delta_i`, and minimises

    .. math::
        L = \mathrm{CE} + \mu (L_\mathrm{stability} + \beta L_\mathrm{weight}), \quad
        L_\mathrm{stability} = \lVert p - \tilde p \rVert^2, \quad
        L_\mathrm{weight} = \sum_i \lambda_i \lVert \Delta_i \rVert^2 / \lVert M_i \rVert^2.

    Weights are exchanged and averaged as in federated averaging.

    Zou, "Federated Distillation with Structural Perturbation for Robust Fine-Tuning of LLMs",
    2024, §3.2: L_MSI. The two passes share
    their dropout, so without a perturbation L_stability is exactly 0. Where Δ is drawn and not learnt,
    L_weight has no gradient: it is logged as ``train/weight_regularization``. With μ = 0 it is
    :class:`~lit_fed.FedAvg` bit for bit.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How θ_k are combined. None: the average weighted by the clients' sizes.
        perturbation: What is added to the modules. None: Gaussian noise of 0.3 of their RMS. With
            ``learn_scale`` its magnitudes ascend L_stability − β·L_weight, and stay with their client.
        sites: Which modules: ``embedding``, ``attention``, ``feed_forward``, ``norm``.
        inject_every: Perturb at every so many of the client's own steps, counted across rounds, the
            first one included.
        **kwargs: Of the loss terms, the optimizer and its warm-up.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        *,
        perturbation: Perturbation | None = None,
        sites: Sequence[Site] = ("attention", "feed_forward"),
        inject_every: int = 200,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, aggregation=aggregation, **kwargs)
        require_instance("model.perturbation", perturbation, Perturbation)
        self.perturbation = GaussianNoise() if perturbation is None else perturbation
        self.injection = StructureInjection(
            self.perturbation, sites, inject_every, self.mu, self.backbone
        )

    def check_split(self) -> None:
        """A perturbation is drawn for a whole batch."""
        super().check_split()
        self.injection.check_split()

    @property
    def term_periods(self) -> Mapping[str, int]:
        """L_stability is there at the steps with injection."""
        return {"stability": self.injection.inject_every}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + μ(L_stability + β·L_weight), the latter two at the steps with injection."""
        weight = batch.get("weight")
        with self.injection.shared_dropout(self) as randomness:
            clean = self(batch)
        perturbed, injected = self.injection.perturbed(self, batch, randomness)
        return self.total_loss(
            self.task_loss(clean, batch),
            **self.injection.terms(
                self.stability_loss(clean, perturbed, weight),
                self.weight_regularization_loss(injected),
                injected,
                self,
            ),
        )
