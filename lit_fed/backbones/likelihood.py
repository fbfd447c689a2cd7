"""How likely a language model holds texts to be after prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_fed.backbones.anatomy import context_length
from lit_fed.backbones.padding import Side, padded, undisturbed
from lit_fed.data.encodings.encoding import padding_id
from lit_fed.data.encodings.prompt_tokens import (
    border,
    following_tokens,
    prompt_tokens,
    tokens_before,
)
from lit_fed.data.features import IGNORED
from lit_fed.data.known_ids import require_known_ids

if TYPE_CHECKING:
    from lit_fed.backbones.causal_lm import CausalLM


def prompt_and_rest(
    backbone: CausalLM, prompts: Sequence[str], rests: Sequence[str], cut: bool = False
) -> list[tuple[list[int], list[int]]]:
    """The tokens of prompts and of what follows them, as they are in training and generation.

    Args:
        backbone: The model.
        prompts: The prompts; blanks at their end begin what follows.
        rests: What follows each of them.
        cut: Whether a prompt that is too long for the model loses its beginning.

    Raises:
        ValueError: If nothing follows a prompt, or a text is longer than the model allows.
    """
    if not prompts:
        return []
    split = [border(prompt) for prompt in prompts]
    texts = [text for text, _ in split]
    tails = [blanks + rest for (_, blanks), rest in zip(split, rests, strict=True)]
    heads = prompt_tokens(backbone.tokenizer, texts)
    pairs = list(zip(heads, following_tokens(backbone.tokenizer, texts, tails), strict=True))
    ids = [token for head, tail in pairs for token in (*head, *tail)]
    require_known_ids({"input_ids": ids}, backbone, "model.backbone")
    room = context_length(backbone.model)
    begins = len(tokens_before(backbone.tokenizer))
    longest: dict[str, int] = {}
    for prompt, (_, tail) in zip(prompts, pairs, strict=True):
        longest[prompt] = max(longest.get(prompt, 0), len(tail))
    for prompt, rest, (head, tail) in zip(prompts, rests, pairs, strict=True):
        if not tail:
            raise ValueError(
                f"the text after each prompt is expected to have a token, but after {prompt!r:.60} there is {rest!r}"
            )
        # all that follow one prompt see the same of it
        length = len(head) + (longest[prompt] if cut else len(tail)) + backbone.virtual_tokens
        over = 0 if room is None else length - room
        # a model predicts from the second token on
        if cut and 0 < over < len(head) - begins:
            del head[begins : begins + over]
        elif over > 0:
            raise ValueError(
                f"a prompt and the text after it are expected to have at most {room} tokens, which the model allows, "
                f"but have {length}: {prompt!r:.60}"
            )
    return pairs


def log_likelihoods(
    backbone: CausalLM,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    batch_size: int = 16,
) -> Tensor:
    """The log-likelihood of texts after prompts, with the active adapters and without dropout.

    Args:
        backbone: The model.
        pairs: N pairs of a prompt's tokens and those of the text after it (:func:`prompt_and_rest`).
        batch_size: Texts at once, those of similar length together.

    Returns:
        Σ log p(token | what is before it) over each text's tokens, in nats, [N], float32, on the CPU.
    """
    found = torch.zeros(len(pairs))
    order = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))
    tokenizer = backbone.tokenizer
    side: Side = "left" if tokenizer.padding_side == "left" else "right"
    pad = padding_id(tokenizer)
    device = next(backbone.parameters()).device
    with undisturbed(backbone):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = padded([[*pairs[i][0], *pairs[i][1]] for i in rows], pad, side)
            labels = padded(
                [[IGNORED] * len(pairs[i][0]) + list(pairs[i][1]) for i in rows], IGNORED, side
            )["input_ids"]
            given = {name: value.to(device) for name, value in {**batch, "labels": labels}.items()}
            prediction = backbone(given)
            targets = given["labels"][:, 1:].masked_fill(~prediction.mask, 0)
            nats = prediction.logits.float().log_softmax(-1).gather(-1, targets.unsqueeze(-1))
            found[rows] = (nats.squeeze(-1) * prediction.mask).sum(-1).cpu()
    return found
