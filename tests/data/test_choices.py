"""Questions with choices in rows, and as instructions."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from lit_fed.data import ChoiceQuestions, InstructionEncoding, InstructionRecords, JSONLSource
from lit_fed.data.choices import QuestionForm


def source(folder: Path, rows: list[dict[str, Any]]) -> JSONLSource:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JSONLSource(path)


def test_choices_in_one_column_or_several() -> None:
    copa = Dataset.from_dict({"asked": ["It rained, so"], "one": ["wet"], "two": ["dry"], "y": [1]})
    form = QuestionForm("{asked} …", ["one", "two"], "y", "MultipleChoice")
    assert form.read(copa) == [("It rained, so …", ["wet", "dry"], 1)]
    held = [{"text": ["so", "not"], "label": ["A", "B"]}]
    arc = Dataset.from_dict({"asked": ["Why?"], "choices": held, "key": ["B"]})
    assert QuestionForm("{asked}", "choices", "key", "MultipleChoice").read(arc)[0].right == 1


def test_questions_are_instructions_and_the_right_choice_is_the_response(tmp_path: Path) -> None:
    rows = [
        {"query": "Who?", "choices": ["Ann", "Ben", "Cy"], "gold": 2},
        {"query": "2 + 2 is", "choices": ["3", "4"], "gold": 1},
    ]
    table = ChoiceQuestions(source(tmp_path, rows), template="Say: {query}").load()
    assert table["instruction"][:] == ["Say: Who?\n- Ann\n- Ben\n- Cy", "Say: 2 + 2 is\n- 3\n- 4"]
    assert table["response"][:] == ["Cy", "4"]
    assert table["gold"][:] == [2, 1]
    encoding = InstructionEncoding(InstructionRecords(context=None))
    assert encoding.prompts(table)[0] == "Say: Who?\n- Ann\n- Ben\n- Cy"
    assert encoding.responses(encoding.with_responses(table, ["3", "Ben"])) == ["3", "Ben"]


def test_a_position_may_be_written_as_text(tmp_path: Path) -> None:
    # as the hub has HellaSwag
    rows = [{"query": "They", "choices": ["ran", "sat"], "gold": "1"}]
    assert ChoiceQuestions(source(tmp_path, rows)).load()["response"][:] == ["sat"]
    with pytest.raises(ValueError, match="a position from 0 to 1, but row 0 has 2"):
        ChoiceQuestions(source(tmp_path, [rows[0] | {"gold": "2"}])).load()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"gold": 2}, "`ChoiceQuestions.answer` is expected to give a position from 0 to 1, but"),
        ({"gold": None}, "from 0 to 1, but row 1 has None"),
        ({"choices": ["a", ""]}, "`ChoiceQuestions.choices` is expected to give a list of texts"),
    ],
)
def test_a_row_without_a_right_choice_is_named_with_its_line(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    right = {"query": "Who?", "choices": ["Ann", "Ben"], "gold": 0}
    with pytest.raises(ValueError, match=message) as raised:
        ChoiceQuestions(source(tmp_path, [right, right | row])).load()
    assert "line 2 of" in str(raised.value)


def test_settings_that_name_no_columns_are_refused(tmp_path: Path) -> None:
    rows = source(tmp_path, [{"query": "Who?", "choices": ["Ann"], "gold": 0, "response": "x"}])
    with pytest.raises(ValueError, match=r"is expected to have no column 'response'"):
        ChoiceQuestions(rows).load()
    with pytest.raises(ValueError, match=r"`ChoiceQuestions.template` is expected to have plain"):
        ChoiceQuestions(rows, template="Who?")
    with pytest.raises(TypeError, match=r"`ChoiceQuestions.source` is expected to be"):
        ChoiceQuestions("questions.jsonl")  # type: ignore[arg-type]


def test_nothing_is_written_for_what_is_missing_and_names_for_classes() -> None:
    rows = Dataset.from_dict(
        {
            "about": [None, "Rain."],
            "kind": [0, 1],
            "q": ["Why", "So"],
            "c": [["a", "b"]] * 2,
            "y": [0, 1],
        },
        Features(
            {
                "about": Value("string"),
                "kind": ClassLabel(names=["cause", "effect"]),
                "q": Value("string"),
                "c": List(Value("string")),
                "y": Value("int64"),
            }
        ),
    )
    form = QuestionForm("{about} {q} ({kind})", "c", "y", "MultipleChoice")
    assert [one.prompt for one in form.read(rows)] == [" Why (cause)", "Rain. So (effect)"]


@pytest.mark.parametrize(
    ("labels", "answer", "right"),
    [
        (["1", "2", "3"], 1, 0),
        ([1, 2, 3], "3", 2),
        (["A", "B", "C"], "C", 2),
        (["A", "B", "C"], 0, 0),
    ],
)
def test_a_label_that_is_a_number_is_no_position(
    labels: list[Any], answer: Any, right: int
) -> None:
    held = [{"text": ["x", "y", "z"], "label": labels}]
    rows = Dataset.from_dict({"q": ["?"], "c": held, "key": [answer]})
    form = QuestionForm("{q}", "c", "key", "MultipleChoice")
    assert form.read(rows)[0].right == right
    if str(labels[0]) == "1":
        none = Dataset.from_dict({"q": ["?"], "c": held, "key": [0]})
        with pytest.raises(ValueError, match=r"expected to give one of \[.*, but row 0 has 0"):
            form.read(none)
