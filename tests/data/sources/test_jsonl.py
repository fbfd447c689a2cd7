import json
from pathlib import Path

import pytest

from lit_fed.data import JSONLSource

ROWS = [{"text": "a\u2028b", "label": 1}, {"text": "c", "extra": [1]}]


@pytest.mark.parametrize("form", ["lines", "array", "pretty", "mark"])
def test_lines_and_arrays_give_the_same(tmp_path: Path, form: str) -> None:
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    texts = {
        "lines": lines,
        "array": json.dumps(ROWS),
        "pretty": json.dumps(ROWS, indent=2),
        "mark": "\ufeff" + lines,
    }
    path = tmp_path / "rows.json"
    path.write_text(texts[form], encoding="utf-8")
    rows = JSONLSource(path).load()
    assert rows[:] == {"text": ["a\u2028b", "c"], "label": [1, None], "extra": [None, [1]]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": \n', "line 2 of .* is not JSON"),
        ('{"a": 1}\n3\n', "line 2 of .* is expected to be an object, but is 3"),
        ('[{"a": 1},\n 3]', "item 1 of .* is expected to be an object"),
        ('[{"a": 1},\n', "line 2 of .* is not JSON"),
        ("\n", "has none"),
        ("[]", "has none"),
        ('{"a": 1}\n{"a": "x"}\n', "column 'a' of .* mixes types"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        JSONLSource(path).load()


def test_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match=r"expected to be a text file in UTF-8"):
        JSONLSource(path).load()
