"""Prompts: what strangers are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

TRIAL: Final = "Hello"
"""What is asked before training, to see whether there is an answer at all."""


def require_prompts(prompts: Sequence[str]) -> Sequence[str]:
    """Prompts that are a list of texts.

    Args:
        prompts: What was given.

    Raises:
        TypeError: If it is a single text, which is a sequence of texts of one letter, or one of them is no text.

    Example:
        >>> require_prompts("Why?")
        Traceback (most recent call last):
        TypeError: `prompts` is expected to be a list of texts, but got a text: 'Why?'
    """
    if isinstance(prompts, str):
        raise TypeError(
            f"`prompts` is expected to be a list of texts, but got a text: {prompts!r:.80}"
        )
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise TypeError(
                f"`prompts` is expected to be a list of texts, but has a {type(prompt).__name__}"
            )
    return prompts
