"""The help of a command: docstrings as a terminal shows them, without the markup of the reference."""

from __future__ import annotations

import re
from argparse import Action

from jsonargparse import DefaultHelpFormatter

_ROLE = re.compile(r":(?:\w+:)+`~?([^`]+)`")


def plain(text: str) -> str:
    """A docstring's words without roles, and with one backtick in the place of two.

    Args:
        text: The words.

    Example:
        >>> plain("Trains a :class:`~lit_fed.FedAvg`, as ``fit`` does.")
        'Trains a `lit_fed.FedAvg`, as `fit` does.'
    """
    return _ROLE.sub(r"`\1`", text).replace("``", "`")


class PlainHelp(DefaultHelpFormatter):
    """Writes help without markup, and leaves the line of an example as it is, so that it can be copied.

    Example:
        >>> from jsonargparse import ArgumentParser
        >>> parser = ArgumentParser(prog="run", formatter_class=PlainHelp, epilog="Example: run --steps 3")
        >>> _ = parser.add_argument("--steps", type=int, default=1, help="Steps of ``SGD``.")
        >>> print(parser.format_help().partition("--help")[2])
                   Show this help message and exit.
          --steps STEPS  Steps of `SGD`. (type: int, default: 1)
        <BLANKLINE>
        Example: run --steps 3
        <BLANKLINE>
    """

    def start_section(self, heading: str | None) -> None:
        """Begin a group of settings, whose heading is the first line of a docstring."""
        super().start_section(heading and plain(heading))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return (
            text if text.startswith("Example: ") else super()._fill_text(plain(text), width, indent)
        )

    def _expand_help(self, action: Action) -> str:
        return plain(super()._expand_help(action))
