"""Texts with columns in braces."""

import pytest

from lit_fed.data.braces import columns_in


def test_braces_themselves_are_text() -> None:
    found, ending = columns_in("{{a}} {one}{two} {{", "setting")
    assert found == [("{a} ", "one"), ("", "two")]
    assert ending == " {"


@pytest.mark.parametrize("text", ["{}", "{one!r}", "{one:>5}"])
def test_what_is_no_plain_column_is_refused_with_what_was_asked_for(text: str) -> None:
    with pytest.raises(ValueError, match=r"`setting` is expected to have a question, but got"):
        columns_in(text, "setting", "a question")


def test_what_is_not_well_formed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`setting` is not well-formed: .*, in '\{one'"):
        columns_in("{one", "setting")
