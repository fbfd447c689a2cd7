"""CallableGenerator: a function answers, and what it cannot answer costs that prompt alone."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest

from lit_fed.backbones import CallableGenerator, TextGenerator
from lit_fed.backbones.endpoint.unreachable_error import UnreachableError
from lit_fed.configuration_error import ConfigurationError


def answer(prompt: str) -> str | None:
    """Upper case; a few prompts fail in their own ways."""
    if prompt == "raise":
        raise ValueError("\x1b[31mno such thing")
    wrong = {"none": None, "empty": "", "blank": " \n", "number": 3, "half": "\ud800"}
    return wrong.get(prompt, prompt.upper())  # type: ignore[return-value]


def test_a_prompt_costs_itself_alone() -> None:
    generator = CallableGenerator(answer)
    assert repr(generator) == "CallableGenerator(answer)"
    prompts = ["a", "raise", "none", "empty", "blank", "number", "half", "b"]
    with pytest.warns(
        UserWarning, match=r"failed for 3 of 8 prompts, .* ValueError: '\\x1b"
    ) as told:
        answers = generator.generate(prompts)
    assert answers == ["A", *[None] * 6, "B"]
    assert generator.failures == Counter(error=1, none=1, empty=2, malformed=2)
    assert "\x1b" not in str(told[0].message)
    assert isinstance(generator, TextGenerator)
    assert generator.generate(["c"]) == ["C"]
    assert generator.failures == Counter()


def test_nothing_is_told_of_what_is_meant() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CallableGenerator(answer).generate(["none", "a", "empty"]) == [None, "A", None]
        assert CallableGenerator(answer).generate(["none"]) == [None]
        assert CallableGenerator(answer).generate([]) == []


@pytest.mark.parametrize(("prompt", "cause"), [("raise", ValueError), ("number", type(None))])
def test_a_function_that_never_answers_is_an_error(prompt: str, cause: type) -> None:
    generator = CallableGenerator(answer)
    with pytest.raises(ConfigurationError, match=r"`function` .* of none of 2 prompts") as caught:
        generator.generate([prompt, prompt])
    assert isinstance(caught.value.__cause__, cause)
    assert generator.generate(["a"]) == ["A"]
    with pytest.warns(UserWarning, match="failed for 2 of 2"):
        assert generator.generate([prompt, prompt]) == [None, None]


def test_a_check_finds_a_wrong_function() -> None:
    with pytest.raises(
        ConfigurationError, match=r"`function` .* of 'Hello': .* is a int"
    ) as caught:
        CallableGenerator(lambda prompt: 3).check()  # type: ignore[arg-type, return-value]
    assert not isinstance(caught.value, UnreachableError)
    for silent in ("", None):
        CallableGenerator({"Hello": silent}.get).check()


def test_after_a_check_it_costs_its_answers_alone() -> None:
    """Whether it has passed, or found that what the function asks is not there."""
    for says in ("yes", None):
        answers = {"Hello": says} if says else {}
        generator = CallableGenerator(answers.__getitem__)
        if says:
            generator.check()
        else:
            with pytest.raises(UnreachableError, match=r"`function` .* of 'Hello': KeyError"):
                generator.check()
        with pytest.warns(UserWarning, match="failed for 2 of 2 prompts"):
            assert generator.generate(["a", "b"]) == [None, None]
        assert generator.failures == Counter(error=2)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="`function` is expected to be a function"):
        CallableGenerator("answer")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`prompts` is expected to be a list of texts"):
        CallableGenerator(answer).generate("a")


class Repeats:
    """A class whose instances answer."""

    def __init__(self, times: int = 2) -> None:
        self.times = times

    def __call__(self, prompt: str) -> str:
        return prompt * self.times


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("tests.backbones.test_callable_generator.answer", "AB"),
        (
            {
                "class_path": "tests.backbones.test_callable_generator.Repeats",
                "init_args": {"times": 3},
            },
            "ababab",
        ),
    ],
    ids=["function", "class"],
)
def test_from_yaml(function: object, expected: str) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--generator", type=TextGenerator)
    given = {
        "class_path": "lit_fed.backbones.CallableGenerator",
        "init_args": {"function": function},
    }
    config = parser.parse_object({"generator": given})
    made = parser.instantiate(config).generator
    assert made.generate(["ab"]) == [expected]
    again = parser.instantiate(parser.parse_string(parser.dump(config))).generator
    assert again.generate(["ab"]) == [expected]
