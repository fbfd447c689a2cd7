"""Records of whole conversations: lists of turns with a role and a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lit_fed.data.columns import column_values, in_memory_with_values, row_ids, with_values
from lit_fed.data.records.records import Conversation, Records
from lit_fed.data.row_error import RowError

if TYPE_CHECKING:
    from datasets import Dataset

_SETTING: Final = "data.encoding.records"
_TAKEN: Final = ("system", "user", "assistant")
_SOMETHING: Final = "?"
_ROLES: Final = {**{role: role for role in _TAKEN}, "human": "user", "gpt": "assistant"}


class ChatRecords(Records):
    """A chat a row: a column of lists of turns.

    The defaults are those of ``messages``; ShareGPT's are ``column="conversations", role="from", content="value"``.
    Turns of the assistant before anybody else's are left out, as in what is cut out of longer chats.

    Args:
        column: The column of turns.
        role: The key of who speaks.
        content: The key of what is said.
        roles: What the roles of the data mean: system, user or assistant. None: these, and ``human`` and ``gpt``.

    Raises:
        ValueError: If a role means something else, or none means the assistant.

    >>> from datasets import Dataset
    >>> turns = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]
    >>> rows = Dataset.from_dict({"conversations": [turns]})
    >>> ChatRecords("conversations", role="from", content="value").conversations(rows)
    [[{'role': 'user', 'content': '2 + 2?'}, {'role': 'assistant', 'content': '4'}]]
    """

    def __init__(
        self,
        column: str = "messages",
        role: str = "role",
        content: str = "content",
        roles: dict[str, str] | None = None,
    ) -> None:
        self.column = column
        self.role = role
        self.content = content
        self.roles = dict(_ROLES) if roles is None else roles
        if bad := [role for role in self.roles.values() if role not in _TAKEN]:
            raise ValueError(
                f"`{_SETTING}.roles` are expected to mean one of {', '.join(_TAKEN)}, but one means {bad[0]!r}"
            )
        if "assistant" not in self.roles.values():
            raise ValueError(
                f"`{_SETTING}.roles` is expected to say which role is the assistant, whose turns are learnt, but got "
                f"{self.roles}"
            )

    @property
    def columns(self) -> Mapping[str, str]:
        """The column it reads, see :class:`Records`."""
        return {"column": self.column}

    @property
    def wording(self) -> Mapping[str, str]:
        """Nothing: the turns are as they stand."""
        return {}

    def conversations(self, rows: Dataset) -> list[Conversation]:
        """Each row's turns.

        Raises:
            RowError: If a value is no list of turns, a turn lacks its role or is no text, or a role is unknown.
        """
        ids = row_ids(rows)
        return [
            self._conversation(value, int(ids[position]))
            for position, value in enumerate(column_values(rows, self.column))
        ]

    def with_responses(self, rows: Dataset, texts: Sequence[str]) -> Dataset:
        """The rows with other texts as the assistant's last turns that are not blank."""
        return self._with(rows, texts, "assistant", lambda before, text: text)

    def with_hints(self, rows: Dataset, hints: Sequence[str]) -> Dataset:
        """The rows up to those turns, with a text more at the end of the user's before them."""
        return self._with(rows, hints, "user", lambda before, hint: before + hint, cut=True)

    def answered(self, rows: Dataset) -> tuple[Dataset, frozenset[int]]:
        """Rows of which those that end with another's turn or a blank one have the assistant's, and their positions."""
        if self.column not in rows.column_names:
            return rows, frozenset()
        values = column_values(rows, self.column)
        without = {
            i: turns
            for i, (turns, one) in enumerate(zip(values, self.conversations(rows), strict=True))
            if one and not self._answers(turns[-1])
        }
        if not without:
            return rows, frozenset()
        name = next(role for role, meant in self.roles.items() if meant == "assistant")
        added = {self.role: name, self.content: _SOMETHING}
        filled = []
        for i, turns in enumerate(values):
            if i in without:
                blank = self.roles.get(turns[-1][self.role]) == "assistant"
                kept = turns[:-1] if blank else turns
                turns = [*kept, {**(turns[-1] if blank else dict.fromkeys(turns[0])), **added}]
            filled.append(turns)
        return with_values(rows, self.column, filled), frozenset(without)

    def _with(
        self,
        rows: Dataset,
        texts: Sequence[str],
        role: str,
        change: Callable[[str, str], str],
        cut: bool = False,
    ) -> Dataset:
        """The rows with another text in the last turn of a role, up to the assistant's last that is not blank.

        What follows that turn of the assistant is left out where the rows are ``cut``.
        """
        changed = []
        for turns, text in zip(column_values(rows, self.column), texts, strict=True):
            turns = [dict(turn) for turn in turns]
            last = max((i for i, turn in enumerate(turns) if self._answers(turn)), default=-1)
            of_role = [i for i in range(last + 1) if self.roles.get(turns[i][self.role]) == role]
            if of_role:
                turn = turns[of_role[-1]]
                turn[self.content] = change(turn[self.content] or "", text)
            changed.append(turns[: last + 1] if cut and last >= 0 else turns)
        return in_memory_with_values(rows, self.column, changed)

    def _answers(self, turn: Mapping[str, Any]) -> bool:
        said = (turn[self.content] or "").strip()
        return self.roles.get(turn[self.role]) == "assistant" and bool(said)

    def _conversation(self, value: Any, row: int) -> Conversation:
        if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
            raise RowError(
                f"`{_SETTING}.column` is expected to name a column of lists of turns, but {self.column!r} has "
                f"{type(value).__name__} {value!r:.60} in row {row}",
                row,
            )
        turns: Conversation = []
        for number, turn in enumerate(value):
            role, content = turn.get(self.role), turn.get(self.content)
            if not isinstance(role, str) or role not in self.roles:
                raise RowError(
                    f"`{_SETTING}.roles` is expected to know the roles of all turns, which are "
                    f"{', '.join(map(repr, self.roles))}, but turn {number} of row {row} has {role!r} in key "
                    f"{self.role!r}",
                    row,
                )
            if content is not None and not isinstance(content, str):
                raise RowError(
                    f"`{_SETTING}.content` is expected to name the key of a turn's text, but turn {number} of row "
                    f"{row} has {type(content).__name__} {content!r:.60} in key {self.content!r}",
                    row,
                )
            if content is None and self.content not in turn:
                raise RowError(
                    f"`{_SETTING}.content` is expected to name the key of a turn's text, but turn {number} of row "
                    f"{row} has no {self.content!r}; its keys are {sorted(turn)}",
                    row,
                )
            meant = self.roles[role]
            said_before = any(one["role"] == "user" for one in turns)
            if (meant == "assistant" and not said_before) or (
                meant == "system" and not (content or "").strip()
            ):
                continue
            turns.append({"role": meant, "content": content or ""})
        return turns
