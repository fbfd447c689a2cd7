import re
from typing import Any

import pytest

from lit_fed.metrics import DistinctN, LengthRatio, NumberFidelity, RightAnswers


@pytest.mark.parametrize(
    ("preds", "message"),
    [
        ("one text", "`preds` is expected to be a sequence of texts, but got str"),
        (3, "`preds` is expected to be a sequence of texts, but got int"),
        (["a", None], "`preds` is expected to have texts only, but has NoneType None in place 1"),
    ],
)
def test_what_is_no_sequence_of_texts(preds: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        DistinctN().update(preds)
    with pytest.raises(TypeError, match=re.escape(message)):
        LengthRatio().update(preds, target=["a"])


def test_other_numbers() -> None:
    message = "`target` is expected to have a text for each of the 2 of `preds`, but has 1"
    with pytest.raises(ValueError, match=re.escape(message)):
        LengthRatio().update(["a", "b"], ["a"])
    message = "`rows` is expected to have a row for each of the 1 of `preds`, but has 0"
    with pytest.raises(ValueError, match=re.escape(message)):
        RightAnswers(lambda row, text: True).update(["a"], [])


def test_what_is_missing_is_named_with_what_asks_for_it() -> None:
    message = '`source` is expected with against="source", but was not given'
    with pytest.raises(ValueError, match=re.escape(message)):
        NumberFidelity().update(["a"], target=["b"])
