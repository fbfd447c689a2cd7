"""Perplexity of texts by a language model, and how much of it each word makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lit_fed.backbones.anatomy import context_length
from lit_fed.backbones.likelihood import log_likelihoods

if TYPE_CHECKING:
    from lit_fed.backbones import CausalLM


def start_token(backbone: CausalLM) -> int:
    """The token before a text: the one that begins texts, else the one that ends them.

    Args:
        backbone: The language model.

    Raises:
        ValueError: If it has neither.
    """
    tokenizer = backbone.tokenizer
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ValueError(
        "the language model of ONION is expected to have a token that begins or ends a text, after which the first "
        f"word is predicted, but the tokenizer of {backbone.model.config.name_or_path!r} has neither"
    )


def perplexities(
    backbone: CausalLM, texts: Sequence[str], batch_size: int = 32
) -> npt.NDArray[np.float64]:
    r"""The perplexity of each text, which no other text of its batch changes.

    .. math:: p = \exp\Big(-\frac{1}{T} \sum_{t=1}^{T} \log q(x_t \mid x_{<t})\Big)

    over the T tokens of the text alone, the first of which follows the start token. Padding is no token of it.

    Args:
        backbone: The language model q.
        texts: N texts; of one that is longer than the model reads, the beginning counts.
        batch_size: Texts at once, those of similar length together.

    Returns:
        [N], at least 1; infinite for a text without tokens.

    Raises:
        ValueError: If the model has no token that begins or ends a text.
    """
    start = start_token(backbone)
    distinct = list(dict.fromkeys(texts))
    room = context_length(backbone.model)
    tokens = backbone.tokenizer(distinct, add_special_tokens=False)["input_ids"] if distinct else []
    read = [ids if room is None else ids[: room - backbone.virtual_tokens - 1] for ids in tokens]
    some = [i for i, ids in enumerate(read) if ids]
    found = log_likelihoods(backbone, [([start], read[i]) for i in some], batch_size)
    value = dict.fromkeys(distinct, np.inf)
    for i, log_likelihood in zip(some, found.double().tolist(), strict=True):
        with np.errstate(over="ignore"):
            value[distinct[i]] = float(np.exp(-log_likelihood / len(read[i])))
    return np.array([value[text] for text in texts], np.float64)


def suspicions(
    backbone: CausalLM, texts: Sequence[str], batch_size: int = 32
) -> list[npt.NDArray[np.float64]]:
    """How much each word adds to its text's perplexity: f_i = p(text) − p(text without word i).

    Qi et al. (2021), equation 1, https://arxiv.org/abs/2011.10369. Words are what blanks divide.

    Args:
        backbone: The language model.
        texts: N texts.
        batch_size: Texts at once.

    Returns:
        N arrays with a number for each word; it is 0 for a text's only word, and in a text that gives no tokens.
    """
    words = [text.split() for text in texts]
    without = [[" ".join(one[:i] + one[i + 1 :]) for i in range(len(one))] for one in words]
    several = [i for i, one in enumerate(words) if len(one) > 1]
    asked = [text for i in several for text in (" ".join(words[i]), *without[i])]
    found = perplexities(backbone, asked, batch_size)
    result: list[npt.NDArray[np.float64]] = [np.zeros(len(one)) for one in words]
    place = 0
    for i in several:
        size = len(words[i]) + 1
        whole, *rest = found[place : place + size]
        with np.errstate(invalid="ignore"):
            result[i] = np.nan_to_num(whole - np.array(rest), nan=0.0)
        place += size
    return result
