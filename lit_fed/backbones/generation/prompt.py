"""A prompt as it is generated from."""

from __future__ import annotations

from typing import NamedTuple


class Prompt(NamedTuple):
    """What an answer depends on, beside the model and the settings.

    Attributes:
        tokens: The prompt's.
        blanks: Blanks at the end of its text, which the answer repeats and which are taken off there.
        key: What tokens are drawn by in the place of the prompt; empty: by the prompt.
    """

    tokens: tuple[int, ...]
    blanks: str = ""
    key: str = ""
