"""Conversations as texts of a chat template, and where in them a model's turns begin and end."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]

# Private-use characters mark what a template has written, since no template treats them otherwise than letters.
_PRIVATE: Final = range(0xF0000, 0x110000)
_PROBE: Final = (
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"},
)


@dataclass(frozen=True)
class Turn:
    """A turn of the assistant in a text.

    Attributes:
        start: Where the text begins that is the model's, right behind the prompt without the blanks at its end.
        end: Where it ends, behind the token that ends the turn.
        ended: The added token that ends the turn; None where the template ends it by none.
    """

    start: int
    end: int
    ended: str | None


@dataclass(frozen=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: The text, of which special tokens that were typed are held by one character each.
        turns: The assistant's turns that are not blank, in order.
        header: Where the text of the last user's turn begins.
        blanks: The blanks before the last turn's text that are the model's to write, at the prompt's end or behind it.
    """

    text: str
    turns: tuple[Turn, ...]
    header: int
    blanks: str


class TemplateError(ValueError):
    """A conversation cannot be written by a template.

    Args:
        message: What is wrong.
        position: Which conversation.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class Rendering:
    """A tokenizer and a chat template.

    Args:
        tokenizer: The tokenizer.
        text: The template's text.
        variables: What the template gets beside the conversation.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text: str,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._text = text
        self._variables = dict(variables or {})
        added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        self.special = sorted(special, key=len, reverse=True)
        self._tokens = _any_of([token for token in added if token.strip()])
        self._typed = _any_of(special)

    def __call__(
        self, conversations: Sequence[Sequence[Message]]
    ) -> tuple[list[Rendered], dict[str, str]]:
        """Write conversations, each of which ends with a turn of the assistant.

        Args:
            conversations: The conversations.

        Returns:
            The texts, and the special token that each of the characters stands for.

        Raises:
            TemplateError: If the template refuses a conversation, does not have a turn as it is, or writes it
                otherwise when it is generated.
        """
        most = max(map(len, conversations), default=0)
        free = _private({c for one in conversations for m in one for c in m["content"]})
        held = {token: next(free) for token in self.special}
        opening = [next(free) for _ in range(most)]
        closing = [next(free) for _ in range(most)]
        plain = [
            [{**m, "content": self._held(m["content"], held)} for m in one] for one in conversations
        ]
        marked = [
            [
                {**m, "content": _marked(m["content"], opening[i], closing[i])}
                for i, m in enumerate(one)
            ]
            for one in plain
        ]
        texts, with_marks = self._written(plain), self._written(marked)
        marks = _any_of([*opening, *closing])
        asked = [_asked(one) for one in conversations]
        prompts = iter(
            self._written(
                [
                    one[:number]
                    for one, numbers in zip(plain, asked, strict=True)
                    for number in numbers
                ],
                generating=True,
                owner=[position for position, numbers in enumerate(asked) for _ in numbers],
            )
        )
        found = []
        for position, (one, text, marking, numbers) in enumerate(
            zip(plain, texts, with_marks, asked, strict=True)
        ):
            places = _places(marking, marks)
            changed = marks.sub("", marking) != text
            turns: list[Turn] = []
            blanks = ""
            for number in numbers:
                prompt = next(prompts)
                begin, end = places.get(opening[number]), places.get(closing[number])
                if begin is None or end is None:
                    raise TemplateError(
                        "`data.encoding.template` is expected to write the response, each of the assistant's turns, "
                        f"but leaves out turn {number}",
                        position,
                    )
                if changed or text[begin:end] != one[number]["content"].strip():
                    raise TemplateError(
                        "`data.encoding.template` is expected to write what is said as it is said, but changes turn "
                        f"{number}",
                        position,
                    )
                start = len(prompt.rstrip(" "))
                before = turns[-1].end if turns else 0
                if number != numbers[-1] and prompt.startswith(text[:begin]):
                    # an earlier turn without what is generated before it, such as an empty thought
                    start = min(start, begin)
                    prompt = text[:start]
                if not text.startswith(prompt.rstrip(" ")) or not before <= start <= begin:
                    raise TemplateError(
                        "`data.encoding.template` is expected to write a conversation as it writes the beginning "
                        "from which its next turn is generated (`add_generation_prompt`), but writes "
                        f"{text[:begin][-60:]!r} where it generates from {prompt[-60:]!r}",
                        position,
                    )
                later = [place for place in places.values() if place > end]
                stop = min(later, default=len(text))
                blanks = "" if text[start:begin].strip() else text[start:begin]
                token = self._tokens.search(text, end, stop)
                is_last = number == len(one) - 1
                if token is not None:
                    turns.append(Turn(start, token.end(), token.group()))
                else:
                    turns.append(Turn(start, stop if is_last else end, None))
            asking = [i for i, m in enumerate(one) if m["role"] == "user"]
            header = places.get(opening[asking[-1]], 0) if asking else 0
            found.append(Rendered(text, tuple(turns), header, blanks))
        return found, {character: token for token, character in held.items()}

    def ends(self) -> frozenset[str]:
        """The added tokens that end a turn of the assistant.

        Raises:
            ValueError: If the template cannot write a short conversation.
        """
        (one,), _ = self([_PROBE])
        return frozenset(turn.ended for turn in one.turns if turn.ended is not None)

    def _held(self, content: str, held: Mapping[str, str]) -> str:
        return self._typed.sub(lambda match: held[match.group()], content)

    def _written(
        self,
        conversations: Sequence[Sequence[Message]],
        generating: bool = False,
        owner: Sequence[int] | None = None,
    ) -> list[str]:
        """Each conversation as the template writes it."""
        from jinja2 import TemplateError as JinjaError

        written: list[str] = []
        for position, one in enumerate(conversations):
            try:
                told: Any = self._tokenizer.apply_chat_template(
                    [dict(message) for message in one],
                    chat_template=self._text,
                    tokenize=False,
                    add_generation_prompt=generating,
                    **self._variables,
                )
            except (JinjaError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())
                whose = position if owner is None else owner[position]
                raise TemplateError(
                    f"`data.encoding.template` cannot write the conversation: {reason:.200}", whose
                ) from None
            written.append(str(told))
        return written


def ends_of_turns(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a turn of the assistant in a tokenizer's own chat template; none where it has none of use."""
    if tokenizer.chat_template is None:
        return []
    try:
        ends = Rendering(tokenizer, tokenizer.get_chat_template()).ends()
    except ValueError:  # it cannot write a short conversation, so nobody is asked by it
        return []
    return [token_id(tokenizer, token) for token in sorted(ends)]


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The id of one of a tokenizer's added tokens."""
    added = tokenizer.added_tokens_decoder.items()
    return next(number for number, one in added if one.content == token)


def template_digest(text: str, wording: Mapping[str, Any]) -> str:
    """A digest of a template and what is written around a record's texts: 16 hexadecimal digits.

    >>> template_digest("{{ messages }}", {})
    'b5972ecbda023aa3'
    """
    parts = [text, *(f"{name}={value}" for name, value in sorted(wording.items()))]
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()


def _asked(conversation: Sequence[Message]) -> list[int]:
    """The numbers of the assistant's turns that are not blank."""
    return [
        i for i, m in enumerate(conversation) if m["role"] == "assistant" and m["content"].strip()
    ]


def _marked(content: str, opening: str, closing: str) -> str:
    """A text between two marks, with the blanks around it outside, where a template may take them off."""
    core = content.strip()
    start = content.index(core)
    return f"{content[:start]}{opening}{core}{closing}{content[start + len(core) :]}"


def _places(text: str, marks: re.Pattern[str]) -> dict[str, int]:
    """Where each mark stands, not counting marks."""
    found = list(marks.finditer(text))
    return {match.group(): match.start() - i for i, match in enumerate(found)}


def _private(used: set[str]) -> Iterator[str]:
    """Characters that no text has."""
    return (character for number in _PRIVATE if (character := chr(number)) not in used)


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    """Finds any of some texts, the longest where several begin at one place."""
    ordered = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
