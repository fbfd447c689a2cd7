"""Pretrained representation: vectors by a model as it was loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lit_fed.defenses.representation import Representation


class PretrainedRepresentation(Representation):
    """The model as it was loaded: it has seen no poisoned row, and need not know the task either.

    Args and errors: see :class:`~lit_fed.defenses.representation.Representation`.

    Example:
        >>> PretrainedRepresentation().vectors(["Ann is here."], ["安在这里。"], np.array([0]), seed=0).shape
        (1, 128)
    """

    def vectors(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        labels: npt.NDArray[np.int64],
        seed: int,
    ) -> npt.NDArray[np.float32]:
        """The rows' vectors, [n, d], whatever their labels are."""
        return self._pooled(self._loaded(2), texts, pairs)
