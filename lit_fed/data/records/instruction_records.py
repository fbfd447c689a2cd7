"""Records of an instruction, its context and the response, as of Alpaca and Dolly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from lit_fed.data.braces import columns_in
from lit_fed.data.columns import in_memory_with_texts, require_values, written_values
from lit_fed.data.records.records import Conversation, Message, Records

if TYPE_CHECKING:
    from datasets import Dataset

_SETTING = "data.encoding.records"


class InstructionRecords(Records):
    r"""One question and one answer a row.

    The defaults are Dolly's columns; Alpaca's are ``context="input", response="output"``.

    Args:
        instruction: The column of what is asked.
        context: The column of what it is asked about, which may be blank. None: there is none.
        response: The column of the answer.
        system: A column with what is said before, which may be blank. None: nothing.
        with_context: The user's turn where there is a context: a text with ``{instruction}`` and ``{context}``.
        without_context: The user's turn where there is none: a text with ``{instruction}``.

    Raises:
        ValueError: If one of these texts has not its braces.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"instruction": ["Who?"], "context": ["Ann ran."], "response": ["Ann"]})
    >>> for turn in InstructionRecords().conversations(rows)[0]:
    ...     print(turn)
    {'role': 'user', 'content': 'Who?\n\nAnn ran.'}
    {'role': 'assistant', 'content': 'Ann'}
    """

    optional: ClassVar[frozenset[str]] = frozenset({"context", "system"})

    def __init__(
        self,
        instruction: str = "instruction",
        context: str | None = "context",
        response: str = "response",
        system: str | None = None,
        with_context: str = "{instruction}\n\n{context}",
        without_context: str = "{instruction}",
    ) -> None:
        self.instruction = instruction
        self.context = context
        self.response = response
        self.system = system
        self.with_context = _checked("with_context", with_context, {"instruction", "context"})
        self.without_context = _checked("without_context", without_context, {"instruction"})

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns it reads, see :class:`Records`."""
        named = {
            "instruction": self.instruction,
            "context": self.context,
            "response": self.response,
            "system": self.system,
        }
        return {setting: column for setting, column in named.items() if column is not None}

    @property
    def wording(self) -> Mapping[str, str]:
        """The forms of the user's turn."""
        return {"with_context": self.with_context, "without_context": self.without_context}

    @property
    def response_column(self) -> str | None:
        """The column of the answer."""
        return self.response

    def conversations(self, rows: Dataset) -> list[Conversation]:
        """Each row's two turns, and the system's before them if it is not blank.

        Raises:
            RowError: If an instruction is missing, or a value is no text.
        """
        instructions, contexts, responses, systems = (
            [""] * len(rows) if column is None else _texts(rows, column, setting)
            for setting, column in (
                ("instruction", self.instruction),
                ("context", self.context),
                ("response", self.response),
                ("system", self.system),
            )
        )
        blank = [not instruction.strip() for instruction in instructions]
        require_values(rows, self.instruction, f"{_SETTING}.instruction", blank)
        return [
            [
                *([_turn("system", system)] if system.strip() else []),
                _turn("user", self._asked(instruction, context)),
                _turn("assistant", response),
            ]
            for instruction, context, response, system in zip(
                instructions, contexts, responses, systems, strict=True
            )
        ]

    def with_responses(self, rows: Dataset, texts: Sequence[str]) -> Dataset:
        """The rows with other answers."""
        return in_memory_with_texts(rows, self.response, texts)

    def with_hints(self, rows: Dataset, hints: Sequence[str]) -> Dataset:
        """The rows with a text more at the end of the instruction, or of the context where that comes last."""
        column = self.instruction
        if self.context is not None and self.with_context.index(
            "{context}"
        ) > self.with_context.index("{instruction}"):
            column = self.context
        texts = _texts(rows, column, "instruction")
        if column == self.instruction:
            return in_memory_with_texts(
                rows, column, [t + h for t, h in zip(texts, hints, strict=True)]
            )
        joined = [
            f"{text}{hint}" if text.strip() else hint.lstrip()
            for text, hint in zip(texts, hints, strict=True)
        ]
        return in_memory_with_texts(rows, column, joined)

    def _asked(self, instruction: str, context: str) -> str:
        if context.strip():
            return self.with_context.format(instruction=instruction, context=context)
        return self.without_context.format(instruction=instruction)


def _texts(rows: Dataset, column: str, setting: str) -> list[str]:
    return [text or "" for text in written_values(rows, column, f"{_SETTING}.{setting}")]


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _checked(setting: str, text: str, names: set[str]) -> str:
    wanted = " and ".join(f"{{{name}}}" for name in sorted(names, reverse=True))
    asks = f"{wanted}, each once and no other column"
    found, _ = columns_in(text, f"{_SETTING}.{setting}", asks)
    if sorted(name for _, name in found) != sorted(names):
        raise ValueError(f"`{_SETTING}.{setting}` is expected to have {asks}, but got {text!r}")
    return text
