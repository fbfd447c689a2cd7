"""Loading of a Hugging Face model and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from lit_fed.backbones.anatomy import head_names
from lit_fed.backbones.quantization import four_bit_config, require_bitsandbytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DType = Literal["float32", "bfloat16", "float16", "auto"]


@dataclass
class Pretrained:
    """A loaded model.

    Args:
        model: The model.
        tokenizer: Its tokenizer, which has a padding token.
        initialised: Names of the parameters that the checkpoint does not hold and that are random.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    initialised: tuple[str, ...]


def load_pretrained(
    auto_class: Any,
    model: str,
    dtype: DType = "float32",
    quantization: Literal["4bit"] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    **config: Any,
) -> Pretrained:
    """Load a model and its tokenizer.

    Args:
        auto_class: One of the ``AutoModelFor…`` classes of transformers.
        model: A local folder in Hugging Face format, or a name on the hub.
        dtype: Type of the weights; ``auto`` is that of the checkpoint.
        quantization: ``4bit`` for frozen weights of four bits (extra ``bitsandbytes``).
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the model may run.
        **config: Settings of the model's configuration, such as ``num_labels``.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If it cannot be loaded for the task, or a setting is not one of those allowed.
    """
    if dtype not in get_args(DType):
        raise ValueError(
            f"`model.backbone.dtype` is expected to be one of {', '.join(get_args(DType))}, "
            f"but got {dtype!r}"
        )
    if quantization not in ("4bit", None):
        raise ValueError(
            f"`model.backbone.quantization` is expected to be 4bit or null, but got {quantization!r}"
        )
    place = _locate(model)
    if quantization is not None:
        require_bitsandbytes()
    from transformers import AutoConfig, AutoTokenizer

    remote: dict[str, Any] = {
        "revision": revision or "main",
        "trust_remote_code": trust_remote_code,
    }
    try:
        with quiet_transformers():
            quantized: dict[str, Any] = {}
            if quantization is not None:
                made = AutoConfig.from_pretrained(place, **remote, **config)
                with torch.device("meta"):
                    heads = head_names(auto_class.from_config(made))
                quantized["quantization_config"] = four_bit_config(dtype, heads)
            loaded, info = auto_class.from_pretrained(
                place,
                dtype=dtype,
                output_loading_info=True,
                # What does not fit is told below: transformers names a setting that is not ours.
                ignore_mismatched_sizes=True,
                **quantized,
                **remote,
                **config,
            )
            tokenizer = AutoTokenizer.from_pretrained(place, **remote)
    except OSError as error:
        nowhere = "" if place != model else f"there is no folder {model} here, and on the hub: "
        raise FileNotFoundError(f"`model.backbone.model`: {nowhere}{_line(error)}") from error
    # damaged files make the libraries below raise whatever they like, tokenizers a bare Exception
    except Exception as error:
        raise ValueError(
            f"`model.backbone.model` is {model}, which cannot be loaded with {auto_class.__name__}: "
            f"{_line(error)}"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # transformers makes an empty one of the model's kind, which knows no word
        raise ValueError(
            f"`model.backbone.model` is {model}, which is expected to have a tokenizer, such as a file "
            f"tokenizer.json, but has none"
        )
    if info["mismatched_keys"]:
        name, saved, made = min(info["mismatched_keys"])
        setting = "model.backbone.num_labels" if "num_labels" in config else "model.backbone.model"
        value = config.get("num_labels", model)
        raise ValueError(
            f"`{setting}` is {value}, which does not fit {model}: {name} is {list(made)}, but in "
            f"the checkpoint {list(saved)}"
        )
    _ensure_padding(loaded, tokenizer)
    parameters = {name for name, _ in loaded.named_parameters()}
    return Pretrained(loaded, tokenizer, tuple(sorted(parameters & set(info["missing_keys"]))))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within the block transformers prints neither bars nor reports; its settings are restored after it."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _locate(model: str) -> str:
    """The folder's absolute path, which an exported adapter records; or the name on the hub."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"`model.backbone.model` is {model}, a folder without config.json: expected is one "
                f"in Hugging Face format"
            )
        return str(folder.resolve())
    # A name on the hub is `name` or `owner/name`.
    if model.startswith(("/", ".", "~")) or model.count("/") > 1 or "\\" in model:
        raise FileNotFoundError(
            f"`model.backbone.model` is expected to be a folder in Hugging Face format or a name on "
            f"the hub, but there is no folder {model}"
        )
    return model


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _ensure_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer a padding token if it has none, and the model the tokenizer's."""
    if tokenizer.pad_token_id is None:
        known = getattr(model.config.get_text_config(), "pad_token_id", None)
        token = (
            tokenizer.convert_ids_to_tokens(known)
            if known is not None and 0 <= known < len(tokenizer)
            else tokenizer.eos_token or tokenizer.unk_token
        )
        if token is None:
            raise ValueError(
                f"`model.backbone.model` is {model.name_or_path}, whose tokenizer has no token that "
                f"could pad: neither a padding, an end-of-sequence nor an unknown token"
            )
        tokenizer.pad_token = token
    # A classifier of the GPT kind looks for the last token that is not this one.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
