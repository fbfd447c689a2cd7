"""RSI, the representation stability index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_fed.metrics.arguments import positive_integer
from lit_fed.metrics.linear_cka import debiased_linear_cka
from lit_fed.metrics.wide_states import WideStates


class RepresentationStabilityIndex(WideStates):
    r"""RSI: how far representations of fixed probes stay what they were, higher is better.

    The index of Zou et al., Table 1, which the paper does not define. Here, with the debiased
    linear CKA of :func:`~lit_fed.metrics.linear_cka.debiased_linear_cka`:

    .. math:: RSI = \frac{100}{|G||L|} \sum_{g \in G} \sum_{l \in L}
        \min(1, \max(0, CKA(X_{g,l}, Y_{g,l})))

    What X and Y are is the caller's choice, always on the same held-out probes:

    - over tasks: X after task t, Y of the final model; a group is a task t;
    - under perturbation: X with a perturbation *not* used in training, Y without; a group is a
      perturbation;
    - clients against the global model: X of a client, Y of the global model; a group is a client.

    The probes may come in batches and on several processes, the two sides of a batch together: the
    value is that of all the probes at once. The features are kept until ``reset``, in at least float32
    (``compute_on_cpu=True`` keeps them off the accelerator).

    - A model which never changes scores 100, also one which never learnt: read it beside SRS.
    - Constant features (a collapsed representation) give 0/0 = 0.
    - NaN (nothing to tell): no update yet. An empty batch adds nothing.

    Args:
        chunk_size: Rows of the largest intermediate matrix in the computation.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``chunk_size`` is no integer.
        ValueError: If ``chunk_size`` is below 1.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rsi = RepresentationStabilityIndex()
        >>> final = torch.randn(64, 8)
        >>> rsi.update(2 * final, final, group=0)
        >>> rsi.update(torch.randn(64, 8), final, group=1)
        >>> bool(49.9 < rsi.compute() < 60)
        True
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0
    plot = Metric._plot

    features: list[Tensor]
    references: list[Tensor]
    headers: list[Tensor]

    def __init__(self, chunk_size: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chunk_size = positive_integer("chunk_size", chunk_size)
        # Flat and of one dtype, with the shapes beside: layers differ in width, and a process
        # without data takes part in gathering with an empty flat tensor.
        for state in ("features", "references", "headers"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, features: Tensor, reference: Tensor, group: int = 0, layer: int = 0) -> None:
        """Adds probes.

        Args:
            features: Representations of some probes, [n, d], for example mean-pooled.
            reference: Representations of the same probes to compare with, [n, d'].
            group: What is compared, from 0: a task, a client or a perturbation.
            layer: The layer, from 0.

        Raises:
            TypeError: If ``group`` or ``layer`` is no integer.
            ValueError: If the shapes are not [n, d] and [n, d'], or ``group`` or ``layer`` is
                negative.
        """
        if features.ndim != 2 or reference.ndim != 2 or len(features) != len(reference):
            raise ValueError(
                "`features` and `reference` are expected to have shapes [probes, width] with the "
                f"same probes, but have {list(features.shape)} and {list(reference.shape)}"
            )
        header = [
            positive_integer("group", group, least=0),
            positive_integer("layer", layer, least=0),
            len(features),
            features.shape[1],
            reference.shape[1],
        ]
        if not len(features):
            return
        self.features.append(features.detach().to(self.device, self.dtype).flatten())
        self.references.append(reference.detach().to(self.device, self.dtype).flatten())
        self.headers.append(torch.tensor(header, device=self.device, dtype=self.dtype))

    def compute(self) -> Tensor:
        """The index, a scalar from 0 to 100.

        Raises:
            ValueError: If a group has fewer than 4 probes in a layer, or features of several widths.
        """
        pairs = self._probes()
        return self._index(pairs.values())

    def standard_error(self, folds: int = 8) -> Tensor:
        """The index's standard error over the probes of this process, by the jackknife.

        Every so many probes are left out in turn: Efron and Stein, "The Jackknife Estimate of Variance", 1981.

        Args:
            folds: Parts of the probes, at least 2. At most a quarter of the fewest probes is taken, so that
                each part leaves enough.

        Returns:
            A scalar; NaN where there are too few probes.
        """
        pairs = list(self._probes().values())
        folds = min([folds, *(len(x) // 4 for x, _ in pairs)])
        if not pairs or folds < 2:
            return torch.tensor(torch.nan, device=self.device)
        left = []
        for fold in range(folds):
            kept = [torch.arange(len(x), device=x.device) % folds != fold for x, _ in pairs]
            left.append(self._index([(x[k], y[k]) for (x, y), k in zip(pairs, kept, strict=True)]))
        values = torch.stack(left)
        return ((folds - 1) * (values - values.mean()).square().mean()).sqrt()

    def _index(self, pairs: Collection[tuple[Tensor, Tensor]]) -> Tensor:
        if not pairs:
            return torch.tensor(torch.nan, device=self.device)
        stability = [debiased_linear_cka(x, y, self.chunk_size).clamp(0, 1) for x, y in pairs]
        return 100 * torch.stack(stability).mean()

    def _probes(self) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
        """All probes of both sides, by group and layer.

        Raises:
            ValueError: If a group has fewer than 4 probes in a layer, or features of several widths.
        """
        probes = {}
        for (group, layer), (features, references) in self._pairs().items():
            widths = {batch.shape[1] for batch in features}, {b.shape[1] for b in references}
            if max(map(len, widths)) > 1:
                raise ValueError(
                    f"group {group}, layer {layer} is expected to have features of one width, "
                    f"but got {sorted(widths[0])} and reference widths {sorted(widths[1])}"
                )
            x, y = torch.cat(features), torch.cat(references)
            if len(x) < 4:
                raise ValueError(
                    f"group {group}, layer {layer} is expected to have at least 4 probes, "
                    f"but has {len(x)}"
                )
            probes[group, layer] = x, y
        return probes

    def _pairs(self) -> dict[tuple[int, int], tuple[list[Tensor], list[Tensor]]]:
        """The batches on both sides, by group and layer."""
        pairs: dict[tuple[int, int], tuple[list[Tensor], list[Tensor]]]
        pairs = defaultdict(lambda: ([], []))
        if isinstance(self.headers, list) and not self.headers:
            return pairs
        features, references = dim_zero_cat(self.features), dim_zero_cat(self.references)
        at = at_reference = 0
        for row in dim_zero_cat(self.headers).reshape(-1, 5).tolist():
            group, layer, n, width, width_reference = (int(number) for number in row)
            end, end_reference = at + n * width, at_reference + n * width_reference
            both = pairs[group, layer]
            both[0].append(features[at:end].view(n, width))
            both[1].append(references[at_reference:end_reference].view(n, width_reference))
            at, at_reference = end, end_reference
        return pairs
