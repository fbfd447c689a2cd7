"""The parser of the settings: its errors are one line, and settings are written out."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.enums import LightningEnum

from lit_fed.cli.parser_errors import one_line
from lit_fed.cli.short_names import import_short_names
from lit_fed.methods.ddg import refuse_replaced
from lit_fed.plain_help import PlainHelp

# Lightning has words of its own as defaults of `str` settings, such as Timer's `interval`, which YAML cannot write.
yaml.SafeDumper.add_multi_representer(
    LightningEnum, lambda dumper, word: dumper.represent_str(word.value)
)


class LitFedParser(LightningArgumentParser):
    """A parser whose errors name the setting, what is expected, what came and the nearest name, in one line.

    The usage is what ``--help`` is for. ``LIT_FED_DEBUG=1`` prints the parser's own words before.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # a YAML takes no abbreviations either
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": PlainHelp, **kwargs})

    def parse_args(  # type: ignore[override]  # as in jsonargparse
        self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any
    ) -> Any:
        """Parse; jsonargparse hands a nested ``null`` on to a class's own parser as the word ``None``."""
        if args is not None and getattr(self, "_inner_parser", False):
            args = [re.sub("=None$", "=null", word) for word in args]
        else:
            import_short_names(sys.argv[1:] if args is None else args)
        return super().parse_args(args, *rest, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong with the settings, and exit.

        Raises:
            ValueError: If it is a former setting.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        unknown = r"class_path '[\w.]*DDG(?:MSI)?':\s+Option '(\w+)' is not accepted"
        refuse_replaced(dict.fromkeys(re.findall(unknown, message)))
        if os.environ.get("LIT_FED_DEBUG"):
            sys.stderr.write(f"{message}\n")
        parser = getattr(ex, "subcommand_parser", None) or self
        self.exit(2, f"lit-fed: error: {one_line(message, parser)}\n")
