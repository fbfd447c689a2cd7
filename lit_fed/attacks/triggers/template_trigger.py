"""A syntactic template as a trigger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lit_fed.attacks.triggers.trigger import Trigger

_TEXT = "{text}"


class TemplateTrigger(Trigger):
    """A clause around the text, so that all triggered texts have one syntactic form.

    After Qi et al., "Hidden Killer: Invisible Textual Backdoor Attacks with Syntactic Trigger", 2021,
    https://arxiv.org/abs/2105.12400, which rewrites texts by a syntactically controlled paraphraser to the form
    S(SBAR)(,)(NP)(VP)(.). Here is no paraphraser and no parser: the text becomes the main clause behind a fixed
    subordinate one, with its words as they are. So the form is the same, and the trigger is less hidden, since the
    words of the subordinate clause are the same in all texts.

    Args:
        template: The form, with ``{text}`` for the text once, and words beside it.

    Raises:
        ValueError: If it has not exactly one ``{text}``, or nothing beside it.

    Example:
        >>> trigger = TemplateTrigger()
        >>> trigger.insert("It was a good film.", np.random.default_rng(0))
        'when it comes down to it, It was a good film.'
        >>> trigger.is_in("when it comes down to it, no."), trigger.is_in("It was a good film.")
        (True, False)
    """

    def __init__(self, template: str = "when it comes down to it, {text}") -> None:
        if template.count(_TEXT) != 1 or not template.replace(_TEXT, "").strip():
            raise ValueError(
                f"`TemplateTrigger.template` is expected to have {_TEXT} once and words beside it, but got {template!r}"
            )
        self.template = template

    @property
    def texts(self) -> Sequence[str]:
        """The template's own words."""
        return (self.template.replace(_TEXT, "").strip(),)

    def insert(self, text: str, draw: np.random.Generator) -> str:
        """Put the text where the template has it; nothing is left to chance."""
        return self.template.replace(_TEXT, text)

    def is_in(self, text: str) -> bool:
        """Whether the text begins and ends as the template does."""
        before, after = self.template.split(_TEXT)
        long_enough = len(text) >= len(before) + len(after)
        return long_enough and text.startswith(before) and text.endswith(after)
