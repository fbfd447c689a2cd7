"""Questions with choices, one of which is right, in the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lit_fed.data.braces import PLAIN, columns_in
from lit_fed.data.columns import column_values, require_column, row_ids, written_values
from lit_fed.data.row_error import RowError

if TYPE_CHECKING:
    from datasets import Dataset


class Question(NamedTuple):
    """A question and its choices."""

    prompt: str
    """What is asked."""
    choices: list[str]
    """The texts to choose among."""
    right: int
    """The position of the right one."""


class QuestionForm:
    r"""How rows are questions with choices.

    Args:
        template: What is asked, with columns in braces.
        choices: The column of the choices, as a list of texts or as ``text`` and ``label``; or the columns, one for
            each choice.
        answer: The column of the right choice: its position from 0, or its label.
        owner: The class whose settings these are, for messages.

    Raises:
        ValueError: If the template is not well-formed or has no columns.

    >>> from datasets import Dataset
    >>> form = QuestionForm("{query}?", "choices", "gold", "MultipleChoice")
    >>> form.read(Dataset.from_dict({"query": ["2 + 2"], "choices": [["3", "4"]], "gold": [1]}))
    [Question(prompt='2 + 2?', choices=['3', '4'], right=1)]
    """

    def __init__(self, template: str, choices: str | list[str], answer: str, owner: str) -> None:
        names = [name for _, name in columns_in(template, f"{owner}.template", PLAIN)[0]]
        if not names or not all(map(str.isidentifier, names)):
            raise ValueError(
                f"`{owner}.template` is expected to have {PLAIN}, but got {template!r}"
            )
        self.template, self.choices, self.answer, self.owner = template, choices, answer, owner
        self.columns = names

    def read(self, rows: Dataset) -> list[Question]:
        """The question of each row.

        Raises:
            ValueError: If a column is not there, or there are no rows.
            RowError: If a row has no choices, or no right one.
        """
        several = [self.choices] if isinstance(self.choices, str) else self.choices
        named = [("template", c) for c in self.columns] + [("choices", c) for c in several]
        for setting, column in [*named, ("answer", self.answer)]:
            require_column(rows, column, f"{self.owner}.{setting}", "the questions")
        if not len(rows):
            raise ValueError(f"`{self.owner}.source` is expected to have questions, but has none")
        table = {column: column_values(rows, column) for column in {*several, self.answer}}
        # as other encodings write them: nothing for what is missing, and the names of classes
        written = {c: written_values(rows, c, f"{self.owner}.template") for c in self.columns}
        return [
            self._question(
                self.template.format(**{c: texts[position] or "" for c, texts in written.items()}),
                {column: values[position] for column, values in table.items()},
                int(row),
            )
            for position, row in enumerate(row_ids(rows))
        ]

    def _question(self, prompt: str, record: dict[str, Any], row: int) -> Question:
        if isinstance(self.choices, str):
            held = record[self.choices]
            texts, labels = (
                (held.get("text"), held.get("label")) if isinstance(held, dict) else (held, None)
            )
        else:
            texts, labels = [record[column] for column in self.choices], None
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text.strip() for text in texts)
        ):
            raise RowError(
                f"`{self.owner}.choices` is expected to give a list of texts, but row {row} has {texts!r:.60}",
                row,
            )
        return Question(prompt, texts, self._right(record[self.answer], texts, labels, row))

    def _right(self, answer: Any, texts: Sequence[str], labels: Any, row: int) -> int:
        """The position of the right choice."""
        told = [str(label) for label in labels or ()]
        if str(answer) in told:  # also where one of them is a number and the other a text
            return told.index(str(answer))
        if not labels and isinstance(answer, str) and answer.strip().isdecimal():
            answer = int(answer)  # as files have it whose columns are all text
        places = range(0 if any(label.strip().isdecimal() for label in told) else len(texts))
        if isinstance(answer, int) and not isinstance(answer, bool) and answer in places:
            return answer
        known = f"one of {labels}" if labels else f"a position from 0 to {len(texts) - 1}"
        raise RowError(
            f"`{self.owner}.answer` is expected to give {known}, but row {row} has {answer!r:.60}",
            row,
        )
