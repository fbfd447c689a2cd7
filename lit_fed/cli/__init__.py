"""The command line: what answers at once, and what trains and evaluates by a LightningCLI.

``entry`` and ``inventory`` import neither torch nor Lightning, so that ``lit-fed list`` does not wait for them.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.cli.entry import main
    from lit_fed.cli.lightning_cli import LitFedCLI
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["LitFedCLI", "main"]
