"""Questions with choices as instructions, of which the right choice is the response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lit_fed.data.choices import QuestionForm
from lit_fed.data.row_error import located
from lit_fed.data.sources.source import Source
from lit_fed.limits import require_instance

if TYPE_CHECKING:
    from datasets import Dataset


class ChoiceQuestions(Source):
    r"""Questions with choices as an instruction, which lists the choices, and a response, the text of the right one.

    So a language model learns to answer in a few words that can be right or wrong, and the answers of several models
    can be the same. The table has the columns ``instruction`` and ``response``, as
    :class:`~lit_fed.data.InstructionRecords` reads them, beside those of the source.

    Args:
        source: Where the questions are.
        template: What is asked, with columns in braces; the choices follow, a line each.
        choices: The column of the choices, as a list of texts or as ``text`` and ``label``; or the columns, one for
            each choice.
        answer: The column of the right choice: its position from 0, or its label.

    Raises:
        TypeError: If ``source`` is none.
        ValueError: If the template is not well-formed or has no columns.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "train.jsonl"
    >>> _ = file.write_text('{"query": "Predators eat", "choices": ["lions", "bunnies"], "gold": 1}\n')
    >>> from lit_fed.data import JSONLSource
    >>> row = ChoiceQuestions(JSONLSource(file)).load()[0]
    >>> row["instruction"], row["response"]
    ('Predators eat\n- lions\n- bunnies', 'bunnies')
    """

    def __init__(
        self,
        source: Source,
        template: str = "{query}",
        choices: str | list[str] = "choices",
        answer: str = "gold",
    ) -> None:
        self.source = require_instance("ChoiceQuestions.source", source, Source)
        self.form = QuestionForm(template, choices, answer, "ChoiceQuestions")

    def load(self) -> Dataset:
        """Read the questions.

        Raises:
            FileNotFoundError: If the source is not there.
            ValueError: If it cannot be read, lacks a column or has one of these names, or a row has no choices or no
                right one.
        """
        rows = self.source.load()
        for column in ("instruction", "response"):
            if column in rows.column_names:
                raise ValueError(
                    f"`ChoiceQuestions.source` is expected to have no column {column!r}, which the question is written "
                    f"to, but its columns are {rows.column_names}"
                )
        with located(self.source.place):
            questions = self.form.read(rows)
        asked = ["\n- ".join([one.prompt, *one.choices]) for one in questions]
        rows = rows.add_column("instruction", asked)
        return rows.add_column("response", [one.choices[one.right] for one in questions])

    def place(self, row: int) -> str | None:
        """Where a question is, see :meth:`Source.place`."""
        return self.source.place(row)
