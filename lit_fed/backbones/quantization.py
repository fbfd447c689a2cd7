"""Quantisation of frozen weights to four bits."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


def require_bitsandbytes() -> None:
    """Raise if frozen weights of four bits are not possible.

    Raises:
        ValueError: If bitsandbytes is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise ValueError(
            "`model.backbone.quantization` is 4bit, which needs bitsandbytes: "
            "pip install lit_fed[bitsandbytes]"
        )


def four_bit_config(dtype: str, whole: list[str]) -> BitsAndBytesConfig:
    """NF4 with double quantisation, as in QLoRA.

    Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023, section 3,
    https://arxiv.org/abs/2305.14314

    Args:
        dtype: What the products are computed in; ``auto`` is bfloat16.
        whole: Names of the modules that are not quantised.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        llm_int8_skip_modules=whole,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if dtype == "auto" else getattr(torch, dtype),
    )
