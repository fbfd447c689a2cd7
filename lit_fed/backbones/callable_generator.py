"""Callable generator: a Python function that answers prompts."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence

from lit_fed.backbones.endpoint.answer_failure import AnswerFailure
from lit_fed.backbones.endpoint.answers import require_answer
from lit_fed.backbones.endpoint.prompts import TRIAL, require_prompts
from lit_fed.backbones.endpoint.unreachable_error import UnreachableError
from lit_fed.backbones.text_generator import TextGenerator
from lit_fed.configuration_error import ConfigurationError


class CallableGenerator(TextGenerator):
    """Answers prompts by a function, one at a time.

    What the function cannot answer costs that prompt its answer alone, which is why it gets no batches: one that
    raises would lose all of a batch. What answers batches is a :class:`TextGenerator` of its own, of one method.
    :attr:`failures` counts by these kinds: ``error`` (it raised), ``none`` (it returned None, for which it may have
    its reasons), ``malformed`` (it returned no text), ``empty``. The function is waited for: one that may take
    for ever has to bring its own end.

    A function that is wrong is an error where :meth:`check` finds it, or a first call without a check. After a check
    that has passed, or once the function has answered, what it fails to answer is told in a warning a call.

    Args:
        function: Takes a prompt, which may be any text, and returns its answer, or None. In YAML: an import path such
            as ``my_rules.answer``, or the ``class_path`` of a class whose instances can be called.

    Raises:
        TypeError: If it cannot be called.

    Example:
        >>> from lit_fed.backbones import CallableGenerator
        >>> generator = CallableGenerator({"2 + 2 =": "4"}.get)
        >>> generator.generate(["2 + 2 =", "3 + 3 ="])
        ['4', None]
        >>> generator.failures
        Counter({'none': 1})
    """

    def __init__(self, function: Callable[[str], str | None]) -> None:
        if not callable(function):
            raise TypeError(
                f"`function` is expected to be a function that answers a prompt, but got {function!r:.80}"
            )
        self.function = function
        self._failures: Counter[str] = Counter()
        self._has_passed = False

    def __repr__(self) -> str:
        """With the function's name, for messages."""
        name = getattr(self.function, "__qualname__", None) or type(self.function).__qualname__
        return f"{type(self).__name__}({name})"

    @property
    def failures(self) -> Counter[str]:
        """How many prompts of the last call have no answer, by what went wrong."""
        return self._failures.copy()

    def generate(self, prompts: Sequence[str]) -> list[str | None]:
        """Ask the function.

        Args:
            prompts: The texts.

        Returns:
            One answer for each prompt, in order; None where the function gave none.

        Raises:
            ConfigurationError: If it raises for all prompts, or returns no text for any, before it has ever answered or
                :meth:`check` has passed: the function is wrong, not the prompts.
            TypeError: If a text stands where a list of them is expected.
        """
        answers: list[str | None] = []
        failures: list[AnswerFailure] = []
        for prompt in require_prompts(prompts):
            try:
                answers.append(self._answer(prompt))
            except AnswerFailure as failure:
                answers.append(None)
                failures.append(failure)
        self._failures = Counter(failure.kind for failure in failures)
        broken = [failure for failure in failures if failure.kind in ("error", "malformed")]
        self._has_passed = self._has_passed or len(broken) < len(answers)
        if broken and not self._has_passed:
            raise ConfigurationError(
                f"`function` is expected to return an answer's text, or None, but of none of {len(answers)} prompts: "
                f"{broken[0]}"
            ) from broken[0].__cause__
        if broken:
            warnings.warn(
                f"the function of a CallableGenerator failed for {len(broken)} of {len(answers)} prompts, which have "
                f"no answer; the first time: {broken[0]}",
                stacklevel=2,
            )
        return answers

    def check(self) -> None:
        """Ask the function something short, so that a wrong one shows before training.

        It need not have an answer to it: None and an empty text are no errors.

        Raises:
            UnreachableError: If it raises, as one does that asks a service which is not there.
            ConfigurationError: If it returns something else than a text or None.
        """
        try:
            self._answer(TRIAL)
        except AnswerFailure as failure:
            said = f"`function` is expected to return an answer's text, or None, but of {TRIAL!r}: {failure}"
            if failure.kind == "malformed":
                raise ConfigurationError(said) from None
            if failure.kind == "error":
                self._has_passed = True
                raise UnreachableError(said) from failure.__cause__
        self._has_passed = True

    def _answer(self, prompt: str) -> str:
        try:
            answer = self.function(prompt)
        except Exception as error:  # a stranger's code: it costs its answer
            raise AnswerFailure("error", f"{type(error).__name__}: {str(error)[:200]!r}") from error
        if answer is None:
            raise AnswerFailure("none", "it returned None")
        return require_answer(answer)
