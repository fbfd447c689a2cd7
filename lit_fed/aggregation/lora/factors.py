"""The factors of LoRA's changes: which tensors of an adapter they are, and with what scale they are multiplied."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from torch import Tensor

from lit_fed.backbones.adapter_parameters import LORA_FACTORS, lora_scales, lora_shapes
from lit_fed.backbones.adapters import DEFAULT

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone

MATRIX: Final = 2  # dimensions


@dataclass(frozen=True)
class Factors:
    """The change s·B·A of one weight.

    In a layer whose weight is stored transposed (GPT-2's ``Conv1D``) and in an embedding the change is that of the
    transposed weight: peft's factors have the same shapes everywhere.

    Attributes:
        a: A, [r, in].
        b: B, [out, r].
        scale: s, alpha / r, or alpha / √r of rank-stabilised LoRA (Kalajdzievski, 2023,
            https://arxiv.org/abs/2312.03732).
    """

    a: Tensor
    b: Tensor
    scale: float


@dataclass(frozen=True)
class FactorNames:
    """Where one weight's factors are among an adapter's tensors.

    Attributes:
        a: The name of A.
        b: The name of B.
        scale: s.
    """

    a: str
    b: str
    scale: float


class LoRALayout:
    """Which tensors of an adapter are factors, by the weight that they change.

    Args:
        weights: The factors' names, by the name of the layer in peft's wrapper, such as
            ``base_model.model.bert.encoder.layer.0.attention.self.query``.

    Attributes:
        a_names: The names of all A.
        b_names: The names of all B.
        names: The names of both.

    Example:
        >>> import peft, torch
        >>> from lit_fed.backbones import SequenceClassifier
        >>> backbone = SequenceClassifier(peft=peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query"]))
        >>> layout = LoRALayout.of(backbone, rule="FlexLoRA")
        >>> len(layout.weights), {f.scale for f in layout.factors(backbone.trainable()).values()}
        (4, {2.0})
    """

    def __init__(self, weights: Mapping[str, FactorNames]) -> None:
        self.weights = dict(weights)
        self.a_names: frozenset[str] = frozenset(w.a for w in self.weights.values())
        self.b_names: frozenset[str] = frozenset(w.b for w in self.weights.values())
        self.names: frozenset[str] = self.a_names | self.b_names

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        rule: str,
        adapter: str = DEFAULT,
        setting: str = "model.aggregation",
    ) -> Self:
        """The layout of a backbone's adapter.

        Args:
            backbone: The backbone.
            rule: The class that asks, for the message.
            adapter: The adapter's name.
            setting: The setting that names this class.

        Raises:
            ValueError: If the adapter's change is not s·B·A of every weight that it changes: no LoRA, DoRA, a
                convolution, a bias of B's own, or factors of blocks, of pooled inputs or of several experts.
        """
        found, shapes = lora_scales(backbone.model, adapter), lora_shapes(backbone.model, adapter)
        names = backbone.trainable(adapter)
        weights: dict[str, FactorNames] = {}
        for layer, scale in found.items():
            for a, b in LORA_FACTORS:
                if layer + a in names and layer + b in names:
                    weights[layer] = FactorNames(layer + a, layer + b, scale)
        config = getattr(backbone.model, "peft_config", {}).get(adapter)
        kind = "null" if config is None else type(config).__name__
        if reason := _refusal(names, weights, kind) or _misfit(names, weights, shapes):
            raise ValueError(
                f"`{setting}` {rule} expects `model.backbone.peft` to be a LoRA, whose change is s·B·A of every "
                f"weight, but {reason}"
            )
        return cls(weights)

    def factors(self, tensors: Mapping[str, Tensor]) -> dict[str, Factors]:
        """The factors among an adapter's tensors, by the layer that they change.

        Args:
            tensors: An adapter's, all of its factors among them.

        Raises:
            KeyError: If a factor is missing.
        """
        return {
            layer: Factors(tensors[w.a], tensors[w.b], w.scale) for layer, w in self.weights.items()
        }

    def require(self, tensors: Mapping[str, Tensor], what: str) -> None:
        """Say which factors are missing, or do not fit each other.

        Args:
            tensors: What somebody has sent.
            what: How an error calls it.

        Raises:
            ValueError: Naming the first.
        """
        for w in self.weights.values():
            for name in (w.a, w.b):
                if name not in tensors:
                    raise ValueError(
                        f"{what} is expected to hold the factors of {len(self.weights)} weights, but {name} is "
                        f"missing, as where somebody has other target modules"
                    )
            a, b = tensors[w.a], tensors[w.b]
            if a.ndim != MATRIX or b.ndim != MATRIX or len(a) != b.shape[1]:
                raise ValueError(
                    f"{what} is expected to hold {w.a} [r, in] and {w.b} [out, r] of one rank r, but they are "
                    f"{list(a.shape)} and {list(b.shape)}"
                )

    def others(self, names: Collection[str]) -> list[str]:
        """Those names that are no factors, such as a head's, in their order."""
        return [name for name in names if name not in self.names]


def _refusal(
    names: Mapping[str, Tensor], weights: Mapping[str, FactorNames], kind: str
) -> str | None:
    """Why an adapter's change is something else than factors and weights that are trained as a whole."""
    held = {name for w in weights.values() for name in (w.a, w.b)}
    if not weights:
        return f"it has no factors A and B ({kind})"
    for name in names:
        if name not in held and "lora_" in name:
            return f"it has {name} besides"
    for name in sorted(held):
        if names[name].ndim != MATRIX:
            return f"{name} is no matrix"
    return None


def _misfit(
    names: Mapping[str, Tensor],
    weights: Mapping[str, FactorNames],
    shapes: Mapping[str, tuple[int, int, int]],
) -> str | None:
    """Which factors are not of their weight's shape, so that their product is not its change."""
    for layer, w in weights.items():
        out, rank, width = shapes.get(layer, (-1, -1, -1))
        for name, expected in ((w.a, (rank, width)), (w.b, (out, rank))):
            if tuple(names[name].shape) != expected:
                return f"{name} is {list(names[name].shape)}, and not {list(expected)} as the weight has it"
    return None
