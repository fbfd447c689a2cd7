"""Merging: an adapter's change is added to the weights, and what is left is a plain model of transformers."""

from __future__ import annotations

import warnings
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from lit_fed.backbones.pretrained import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Parts of the largest logit: what sums in another order move, and what weights of 16 bits lose when they are rounded.
_ROUNDING: Final = {torch.float64: 1e-6, torch.float32: 1e-3}
_COARSE: Final = 0.1


def merged_model(base: Any, adapter: Path, revision: str | None = None) -> PreTrainedModel:
    """The model that an adapter makes of its base, with the adapter's change in its weights.

    The base is loaded once more from where it came, so that the one at hand stays as it is: for a moment there are two
    in memory. One that is quantised there is loaded with whole weights.

    Args:
        base: The model without adapters, whose checkpoint, class, type and configuration are taken.
        adapter: The adapter's folder.
        revision: Of the model on the hub.

    Raises:
        ValueError: If the adapter is of a kind that cannot be merged.
    """
    from peft import PeftModel

    config = deepcopy(base.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with quiet_transformers(), warnings.catch_warnings():
        # transformers deprecates what peft asks of it
        warnings.simplefilter("ignore", FutureWarning)
        plain = type(base).from_pretrained(
            base.name_or_path, config=config, dtype=base.dtype, revision=revision or "main"
        )
        adapted: Any = PeftModel.from_pretrained(plain, str(adapter))
    kind = adapted.peft_config["default"].peft_type
    named = f"`merge` is true, but adapters of {getattr(kind, 'value', kind)} cannot be merged into the weights"
    if not hasattr(adapted.base_model, "merge_and_unload"):
        raise ValueError(f"{named}: save the adapter itself")
    try:
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except (NotImplementedError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{named}: {' '.join(str(error).split())}") from error
    merged.requires_grad_(True)
    merged.eval()
    return merged


def require_same(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> None:
    """Raise where a merged model does not predict what the adapter did.

    Args:
        ours: Logits with the adapter.
        theirs: Those of the merged model for the same rows.
        dtype: Type of the model's weights, to which merged ones are rounded.

    Raises:
        ValueError: If they differ by more than rounding.

    Example:
        >>> require_same(torch.ones(2), torch.ones(2), torch.float32)
        >>> require_same(torch.ones(2), torch.zeros(2), torch.float32)
        Traceback (most recent call last):
        ValueError: `merge` is true, but the merged model does not predict what the adapter did: logits differ by 1,
        of 1 at most; save the adapter itself
    """
    one, other = ours.double().cpu(), theirs.double().cpu()
    gap, size = float((one - other).abs().max()), float(one.abs().max())
    if not gap <= _ROUNDING.get(dtype, _COARSE) * max(size, 1e-3):
        raise ValueError(
            f"`merge` is true, but the merged model does not predict what the adapter did: logits differ by {gap:.3g}, "
            f"of {size:.3g} at most; save the adapter itself"
        )
