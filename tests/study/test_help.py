"""The help of `lit-fed-study` and of what it judges claims by."""

import sys

import pytest

from lit_fed.study import main


@pytest.mark.parametrize("words", [[], ["claims"]])
def test_it_ends_with_an_example_that_can_be_copied(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lit-fed-study", *words, "--help"])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1].startswith(" ".join(["Example: lit-fed-study", *words, "--"]))
    assert "``" not in shown
