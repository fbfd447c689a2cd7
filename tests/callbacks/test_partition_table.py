import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.table import Table

from lit_fed.callbacks import PartitionTable


def _table() -> Table:
    table = Table("client", "rows")
    table.add_row("c0", "12")
    return table


def test_prints_once_on_the_first_process(trainer: Any) -> None:
    trainer.datamodule = SimpleNamespace(partition_table=_table)
    callback = PartitionTable()
    callback.console = Console(file=(screen := io.StringIO()))
    trainer.call([callback], "on_fit_start")
    trainer.finish_round([callback])
    assert screen.getvalue().count("c0") == 1
    trainer.is_global_zero = False
    trainer.call([callback], "on_fit_start")
    assert screen.getvalue().count("c0") == 1
    quiet = PartitionTable(quiet=True)
    quiet.console = callback.console
    trainer.is_global_zero = True
    trainer.call([quiet], "on_fit_start")
    assert screen.getvalue().count("c0") == 1
