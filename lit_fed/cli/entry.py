"""The command ``lit-fed``: answers what needs no model at once, and hands over what trains or evaluates."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lit_fed.cli.commands import EXAMPLES, RUNS
from lit_fed.suggestion import did_you_mean

if TYPE_CHECKING:
    from lightning.pytorch.cli import ArgsType


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        self.exit(2, f"lit-fed: error: {message}\n")


class _Version(argparse.Action):
    """Prints the version when it is asked for: reading it costs more than the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        try:
            print("lit-fed", version("lit_fed"))
        except PackageNotFoundError:
            print("lit-fed, not installed")
        parser.exit()


def main(args: ArgsType = None) -> None:
    """Run the command line.

    What is wrong with the settings or the data is known before the first round, and said in one line;
    set ``LIT_FED_DEBUG=1`` for the traceback.

    Args:
        args: The command line as a list, or None: that of the process, which also finds packages in the
            current folder, as ``python -m lit_fed`` does.
    """
    here = str(Path.cwd())
    if args is None and not sys.flags.safe_path and not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    words = sys.argv[1:] if args is None else args
    if not isinstance(words, list) or _runs(words):
        from lit_fed.cli.lightning_cli import run

        run(args)
        return
    parser = _parser()
    commands = list(EXAMPLES)
    if not words or (not words[0].startswith("-") and words[0] not in commands):
        came = f", but got {words[0]!r}" + did_you_mean(words[0], commands) if words else ""
        parser.error(f"expected one of {', '.join(commands)} or --help{came}")
    given = parser.parse_args(words)
    if given.command == "list":
        from lit_fed.cli.inventory import inventory

        try:
            print(inventory(), flush=True)
        except (
            BrokenPipeError
        ):  # `lit-fed list | head` has seen enough; what is left is written nowhere at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif given.command == "completion":
        _completion(given.shell)
    elif given.command == "quickstart":
        _quickstart(given.seeds, given.root, given.settings)
    else:
        _init(given.folder, given.config)


def _runs(words: list[str]) -> bool:
    """Whether a command line is one for the LightningCLI: it may have settings before the command."""
    first = words[0] if words else ""
    return first in RUNS or (first.startswith("-") and first not in {"-h", "--help", "--version"})


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lit-fed", description="Federated fine-tuning of language models.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="Print the version and exit.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, line in RUNS.items():
        commands.add_parser(name, help=line, add_help=False)
    line = "Compare each client alone, the federation and all data in one place, with the embedded model and data."
    start = commands.add_parser("quickstart", description=line, **_told("quickstart", line))
    start.add_argument("--seeds", type=int, default=1, metavar="N", help="How many (default: 1).")
    start.add_argument(
        "--root",
        type=Path,
        default=Path("runs/quickstart"),
        metavar="FOLDER",
        help="Where the runs go (default: runs/quickstart).",
    )
    start.add_argument(
        "settings", nargs="*", metavar="-- SETTING", help="Settings of `lit-fed fit` for every run."
    )
    line = "Copy a packaged configuration into a folder, to start from."
    init = commands.add_parser("init", description=line, **_told("init", line))
    init.add_argument("folder", type=Path, metavar="FOLDER", help="Where the copy goes.")
    init.add_argument(
        "--config", default="lora_fedavg", metavar="NAME", help="Which one (default: lora_fedavg)."
    )
    line = "List methods, rules, attacks, defences and the other parts that a YAML names, and configurations."
    commands.add_parser("list", description=line, **_told("list", line))
    line = "Print a script by which a shell completes commands and settings; it needs shtab."
    completion = commands.add_parser("completion", description=line, **_told("completion", line))
    completion.add_argument("shell", metavar="SHELL", help="bash, zsh, fish or tcsh.")
    return parser


def _told(command: str, line: str) -> dict[str, Any]:
    """How a command's help is made."""
    return {
        "help": line,
        "epilog": f"Example: {EXAMPLES[command]}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }


def _completion(shell: str) -> None:
    from lit_fed.cli.completion import completion

    try:
        print(completion(shell))
    except (ImportError, ValueError) as error:
        sys.exit(f"lit-fed: error: {error}")


def _quickstart(seeds: int, root: Path, settings: list[str]) -> None:
    from lit_fed.study.quickstart import quickstart

    if seeds < 1:
        sys.exit(f"lit-fed: error: --seeds is expected to be at least 1, but got {seeds}")
    try:
        quickstart(tuple(range(seeds)), root, settings=tuple(settings))
    except OSError as error:
        sys.exit(f"lit-fed: error: {error}")


def _init(folder: Path, name: str) -> None:
    from lit_fed.configurations import copy_configuration

    try:
        target = copy_configuration(name, folder)
    except OSError as error:
        sys.exit(f"lit-fed: error: {error}")
    print(f"{target} is yours to change; lit-fed fit --config {target} runs it")
