"""Studies: several configurations × seeds, their table, their figure."""

from lit_fed.study.run import Run
from lit_fed.study.study import main, study
from lit_fed.study.table import results_table

__all__ = ["Run", "main", "results_table", "study"]
