"""The embedded decoder's tokenizer: words and phrases of the instruction world, single digits, bytes for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lit_fed.data.embedded.instructions import InstructionWorld

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, USER, ASSISTANT, SYSTEM, END = SPECIAL = (
    "<pad>",
    "<unk>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- message['content'] + '<|end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
_SPACE = "▁"
# What splits a wording into pieces: slots, English words with the space before them, runs of Chinese
# characters, and any other character.
_WORDS = re.compile(r"\{[a-z]+\}|[A-Za-z]+|[\u4e00-\u9fff]+|[^\s]|\n")
# Runs of English words.
_PHRASES = re.compile(r"\{[a-z]+\}|[A-Za-z]+(?: [A-Za-z]+)*")


def decoder_tokenizer(world: InstructionWorld, max_length: int) -> PreTrainedTokenizerFast:
    """Make the tokenizer of a world.

    A space belongs to the word after it, so that names are one token each wherever they stand. What stands
    between the slots of a wording is one token too: words that belong together are then a token or two apart,
    and a small model finds them.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    digits = [str(digit) for digit in range(10)]
    pieces = dict.fromkeys([*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), _SPACE, "\n"])
    pieces |= dict.fromkeys(digits)
    for pattern in (_WORDS, _PHRASES):
        pieces |= dict.fromkeys(p for text in _texts(world) for p in _pieces(pattern, text))
    backend = Tokenizer(
        # All pieces have the same score, so the fewest pieces are chosen.
        models.Unigram([(piece, -1.0) for piece in pieces], unk_id=1, byte_fallback=True)
    )
    # A line's first word is written as any other: with the space before it.
    backend.normalizer = normalizers.Replace("\n", "\n ")
    backend.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prepend_scheme="always", split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Replace(_SPACE, " "),
            decoders.Replace("\n ", "\n"),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _texts(world: InstructionWorld) -> Iterator[str]:
    for words in world.words.values():
        for word in words:
            yield from word.values()
    for frame in world.frames:
        for wordings in frame.wordings.values():
            yield from wordings
        for question in frame.questions:
            yield from question.texts.values()
    for by_language in world.instructions.values():
        for texts in by_language.values():
            yield from texts
    for style in world.styles.values():
        yield from (*style.answers.values(), style.stop, style.before, style.between)
    yield from world.reference.values()
    yield from world.copying.values()
    yield from world.stops.values()


def _pieces(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    for match in pattern.finditer(text):
        piece = match.group()
        if piece.startswith("{") or piece.isdigit():
            continue
        spaced = piece.isascii() and (match.start() == 0 or text[match.start() - 1].isspace())
        yield (_SPACE if spaced and piece != "\n" else "") + piece.replace(" ", _SPACE)
