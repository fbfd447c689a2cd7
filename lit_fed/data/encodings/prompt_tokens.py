"""Tokens of a prompt and of what follows it, the same in training and in generation.

A tokenizer cuts a text in another way where it ends than where it goes on: ``Answer: `` ends in a blank of its own
that ``Answer: Paris`` does not have, since there it belongs to the word. So a prompt is cut without the blanks at its
end, alone, in training as in generation; they begin what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LINE_END: Final = "\n"

Piece = str | int
"""A stretch of text, or the id of a special token that is meant as such."""


def border(prompt: str) -> tuple[str, str]:
    """A prompt without the blanks at its end, and these.

    >>> border("Answer:  ")
    ('Answer:', '  ')
    """
    text = prompt.rstrip(" ")
    return text, prompt[len(text) :]


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    split_special_tokens: bool = False,
    add_special_tokens: bool = True,
) -> list[list[int]]:
    """The tokens of prompts, from which a model goes on.

    Those that the tokenizer puts before a text are there, those that it puts after one are not. An empty prompt is
    the token that begins a text or, where there is none, the one that ends it.

    Args:
        tokenizer: The tokenizer.
        prompts: The texts, without blanks at their end (:func:`border`).
        split_special_tokens: Whether special tokens in the texts are read as plain text.
        add_special_tokens: Whether the tokenizer puts its own before a text. False: the texts have all there are, as
            those of chat templates.
    """
    encoded = _encoded(
        tokenizer, prompts, split_special_tokens, add_special_tokens=add_special_tokens
    )
    found = []
    for ids, special in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
        end = max((i + 1 for i, is_special in enumerate(special) if not is_special), default=0)
        start = tokenizer.bos_token_id
        found.append(ids[:end] or [tokenizer.eos_token_id if start is None else start])
    return found


def following_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    rests: Sequence[str],
    split_special_tokens: bool = False,
) -> list[list[int]]:
    """The tokens of texts that follow prompts.

    They are cut as in the whole text. Where a token there joins a prompt's end with the beginning of what follows,
    the latter is cut alone.

    Args:
        tokenizer: A tokenizer that gives offsets.
        prompts: The texts before, without blanks at their end (:func:`border`).
        rests: The texts that follow.
        split_special_tokens: Whether special tokens in the texts are read as plain text.
    """
    texts = [prompt + rest for prompt, rest in zip(prompts, rests, strict=True)]
    encoded = _encoded(tokenizer, texts, split_special_tokens, return_offsets_mapping=True)
    found = []
    for prompt, rest, ids, offsets, special in zip(
        prompts,
        rests,
        encoded["input_ids"],
        encoded["offset_mapping"],
        encoded["special_tokens_mask"],
        strict=True,
    ):
        start = len(prompt)
        own = [
            i
            for i, (a, b) in enumerate(offsets)
            if not special[i] and (b > start or a >= start > 0)
        ]
        if own and offsets[own[0]][0] < start:
            found.append(_going_on(tokenizer, rest, split_special_tokens))
        else:
            found.append([ids[i] for i in own])
    return found


def pieces(segments: Sequence[tuple[str, bool]], special: Mapping[str, int]) -> list[Piece]:
    """A text in stretches, between the special tokens that are meant as such.

    Args:
        segments: Stretches of the text, and whether special tokens in them are plain text.
        special: Special tokens and their ids.

    >>> pieces([("<end>a ", False), ("<end>", True), (" b<end>", False)], {"<end>": 7})
    ['', 7, 'a <end> b', 7, '']
    """
    pattern = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    found: list[Piece] = [""]
    for text, plain in segments:
        parts = [text] if plain or not pattern else re.split(f"({pattern})", text)
        found[-1] = f"{found[-1]}{parts[0]}"
        for token, after in zip(parts[1::2], parts[2::2], strict=True):
            found += [special[token], after]
    return found


def tokens_of_pieces(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Piece], rest: Sequence[Piece]
) -> tuple[list[int], list[int]]:
    """The tokens of a prompt and of what follows it, of which special tokens in texts are plain text.

    Args:
        tokenizer: A tokenizer that gives offsets.
        prompt: The prompt's pieces (:func:`pieces`), the last without blanks at its end.
        rest: The pieces of what follows.
    """
    head, tail = tokens_of_stretches(tokenizer, [prompt, rest])
    return tokens_before(tokenizer) + head, tail


def tokens_of_stretches(
    tokenizer: PreTrainedTokenizerBase, stretches: Sequence[Sequence[Piece]]
) -> list[list[int]]:
    """The tokens of a text's stretches, one after another, of which special tokens in texts are plain text.

    Each is cut without what follows it, as where a model goes on from there.

    Args:
        tokenizer: A tokenizer that gives offsets.
        stretches: The pieces of each (:func:`pieces`).
    """
    found = []
    before = ""
    for number, stretch in enumerate(stretches):
        ids: list[int] = []
        for place, piece in enumerate(stretch):
            if isinstance(piece, int):
                ids.append(piece)
                before = ""
                continue
            if number and not place:
                (own,) = following_tokens(tokenizer, [before], [piece], True) if piece else [[]]
                ids += own
            else:
                ids += _alone(tokenizer, piece, True)
            before += piece
        found.append(ids)
    return found


def tokens_before(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that a tokenizer puts before a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids: list[int] = encoded["input_ids"]
    return ids[: encoded["special_tokens_mask"].index(0)]


def make_typed_unknown(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], encoded: Mapping[str, Any]
) -> None:
    """Replace special tokens that were typed in texts by the unknown token, in place.

    Most tokenizers cut them in pieces where they are told to. One that has them among its words all the same, as
    those of Unigram do, knows no other way to write them.

    Args:
        tokenizer: The tokenizer.
        texts: The texts; where they come in pairs, both as one.
        encoded: Their ``input_ids`` and ``special_tokens_mask``, which tells the tokens that belong around a text.
    """
    known, unknown = special_tokens(tokenizer), tokenizer.unk_token_id
    typed = re.compile("|".join(map(re.escape, known)) or r"(?!)")
    numbers = frozenset(known.values())
    for row, text in enumerate(texts):
        if unknown is not None and typed.search(text):
            ids, special = encoded["input_ids"][row], encoded["special_tokens_mask"][row]
            ids[:] = [
                unknown if token in numbers and not around else token
                for token, around in zip(ids, special, strict=True)
            ]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """A tokenizer's special tokens and their ids."""
    added = tokenizer.added_tokens_decoder.items()
    return {token.content: number for number, token in added if token.special}


def _alone(tokenizer: PreTrainedTokenizerBase, text: str, split: bool) -> list[int]:
    """The tokens of a text within another, without a blank of its own that the tokenizer puts before a text."""
    (ids,) = _encoded(tokenizer, [text], split, add_special_tokens=False)["input_ids"]
    if ids and tokenizer.convert_ids_to_tokens(ids[0]) == "▁" and not text.startswith((" ", "▁")):
        return list(ids[1:])
    return list(ids)


def _going_on(tokenizer: PreTrainedTokenizerBase, text: str, split: bool) -> list[int]:
    """The tokens of a text that goes on within a word: without a blank also where it belongs to the first word."""
    ids = _alone(tokenizer, text, split)
    first = str(tokenizer.convert_ids_to_tokens(ids[0])) if ids else ""
    if not first.startswith("▁") or text.startswith((" ", "▁")):
        return ids
    # behind the end of a line a word has none
    settings = {"add_special_tokens": False, "return_offsets_mapping": True}
    behind = _encoded(tokenizer, [f"{_LINE_END}{text}"], split, **settings)
    (ids_behind,), (places,) = behind["input_ids"], behind["offset_mapping"]
    apart = all(start >= len(_LINE_END) or end <= len(_LINE_END) for start, end in places)
    own = [i for i, (start, _) in zip(ids_behind, places, strict=True) if start >= len(_LINE_END)]
    return own if apart and own else ids


def _encoded(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], split: bool, **settings: bool
) -> Mapping[str, Any]:
    if not texts:
        return {"input_ids": [], "special_tokens_mask": [], "offset_mapping": []}
    encoded: Mapping[str, Any] = tokenizer(
        list(texts),
        return_special_tokens_mask=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
        split_special_tokens=split,
        **settings,
    )
    if split:
        make_typed_unknown(tokenizer, texts, encoded)
    return encoded
