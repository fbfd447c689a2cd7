"""The command of the conformance suite: puts a rule to the test and prints what holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lit_fed.aggregation import Aggregation
from lit_fed.conformance.aggregation_subject import AggregationSubject
from lit_fed.conformance.judgement import Judgement, judge
from lit_fed.conformance.lora_case import lora_cases
from lit_fed.conformance.rule_subject import RuleSubject
from lit_fed.conformance.subject import Subject

if TYPE_CHECKING:
    from rich.table import Table


def subject_of(rule: str, init_args: dict[str, Any] | None = None) -> Subject:
    """What a class path names, ready to be put to the test.

    Args:
        rule: Class path of an :class:`~lit_fed.aggregation.Aggregation`, of another class whose instances are called
            with a :class:`~lit_fed.conformance.LoRARound`, or of a function of one.
        init_args: For the constructor of a class.

    Raises:
        ValueError: If there is no such name, it is nothing of these, or it cannot be made with ``init_args``.

    Example:
        >>> subject_of("lit_fed.aggregation.Median")
        Traceback (most recent call last):
        ValueError: `rule` is expected to be the path of a class or function, but lit_fed.aggregation has no 'Median'
    """
    module, _, name = rule.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"`rule` is expected to be the path of a class or function, but got {rule!r}: {error}"
        ) from error
    except AttributeError as error:
        raise ValueError(
            f"`rule` is expected to be the path of a class or function, but {module} has no {name!r}"
        ) from error
    arguments = init_args or {}
    if isinstance(found, type) and issubclass(found, Aggregation):
        try:
            found(**arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`rule` and `init_args` are expected to make a rule, but {rule} with {arguments or 'none'} says: "
                f"{error}"
            ) from error
        return AggregationSubject(found, **arguments)
    if isinstance(found, type):
        found = found(**arguments)
    elif arguments:
        raise ValueError(f"`init_args` are expected for a class alone, but {rule} is none")
    if not callable(found):
        raise ValueError(f"`rule` is expected to be callable, but got {rule!r}")
    return RuleSubject(found)


def table(judgements: Sequence[Judgement], title: str) -> Table:
    """A table of what holds, for Rich.

    Args:
        judgements: One per case.
        title: Its title.
    """
    from rich.table import Table

    shown = Table(title=title, title_justify="left")
    for column in ("case", "holds", "distance", "what it means"):
        shown.add_column(column, overflow="fold")
    for one in judgements:
        distance = "" if one.distance is None else f"{one.distance:.1e}"
        shown.add_row(one.case.name, one.verdict, distance, one.said)
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what holds of a rule; the command ends with 1 if something is wrong.

    Args:
        arguments: What follows the command. None: those of the process.

    Raises:
        SystemExit: With one line if there is no such rule, and with 1 if a case says ``no`` or ``error``.
    """
    from jsonargparse import ArgumentParser
    from rich.console import Console

    from lit_fed.plain_help import PlainHelp

    example = "Example: python -m lit_fed.conformance lora --rule lit_fed.aggregation.FlexLoRA"
    parser = ArgumentParser(
        prog="python -m lit_fed.conformance",
        formatter_class=PlainHelp,
        epilog=example,
        description="Put a rule that aggregates updates to the test of cases with known answers.",
    )
    lora = ArgumentParser(
        formatter_class=PlainHelp,
        epilog=example,
        description="A rule for LoRA: an Aggregation of lit_fed, or a function or class of your own that is called "
        "with a lit_fed.conformance.LoRARound and returns tensors by their names.",
    )
    lora.add_argument("--rule", type=str, required=True, help="Its path, my_package.module.Name")
    lora.add_argument(
        "--init_args", type=dict[str, Any] | None, help="For a class, such as '{weights: uniform}'"
    )
    parser.add_subcommands().add_subcommand("lora", lora, help="Rules that aggregate LoRA updates.")
    settings = parser.parse_args(arguments).lora
    try:
        subject = subject_of(settings.rule, settings.init_args)
    except (TypeError, ValueError) as error:
        sys.exit(f"lit_fed.conformance: error: {error}")
    judgements = [judge(case, subject) for case in lora_cases()]
    Console().print(table(judgements, f"{settings.rule} on LoRA"))
    if wrong := [one.case.name for one in judgements if one.wrong]:
        print(f"does not hold: {', '.join(wrong)}")
        sys.exit(1)
