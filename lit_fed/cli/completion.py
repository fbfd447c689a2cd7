"""Shell completion of commands and settings, as shtab writes it of jsonargparse's parsers."""

from __future__ import annotations

import sys
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from lit_fed.cli.commands import EXAMPLES, RUNS
from lit_fed.cli.lightning_cli import LitFedCLI


class _Made(Exception):
    """The parser, before anything is parsed."""

    def __init__(self, parser: LightningArgumentParser) -> None:
        super().__init__()
        self.parser = parser


class _OnlyParser(LitFedCLI):
    """Makes the parser of all commands and no more."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        raise _Made(parser)


def completion(shell: str) -> str:
    """A script by which a shell completes ``lit-fed``.

    Args:
        shell: ``bash``, ``zsh``, ``tcsh`` or whatever else the installed shtab writes.

    Raises:
        ImportError: If shtab is not installed.
        ValueError: If it does not know the shell.
    """
    try:
        from shtab import SUPPORTED_SHELLS, complete
    except ImportError as error:
        raise ImportError(
            "completion needs shtab, which is not installed: pip install shtab"
        ) from error
    if shell not in SUPPORTED_SHELLS:
        raise ValueError(
            f"`shell` is expected to be one of {', '.join(SUPPORTED_SHELLS)}, but got {shell!r}"
        )
    words, sys.argv[1:] = sys.argv[1:], []  # each command has its parser where none is asked for
    try:
        _OnlyParser([])
    except _Made as made:
        parser: Any = made.parser
    finally:
        sys.argv[1:] = words
    for name in EXAMPLES.keys() - RUNS.keys():
        parser._subcommands_action.add_subcommand(name, _at_once(name, SUPPORTED_SHELLS))
    # jsonargparse's own script has the class paths of each setting as well, and takes minutes to be made
    return str(complete(parser, shell))


def _at_once(command: str, shells: list[str]) -> ArgumentParser:
    """The parser of a command that answers at once, with what is completed of it."""
    parser = ArgumentParser(exit_on_error=False)
    if command == "quickstart":
        parser.add_argument("--seeds", type=int)
        parser.add_argument("--root", type=str)
    elif command == "init":
        parser.add_argument("folder", type=str)
        parser.add_argument("--config", type=str)
    elif command == "completion":
        parser.add_argument("shell", choices=shells)
    return parser
