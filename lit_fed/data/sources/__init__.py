"""Where tables come from, one kind a file."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.data.sources.choice_questions import ChoiceQuestions
    from lit_fed.data.sources.client_files import ClientFiles
    from lit_fed.data.sources.delimited import CSVSource, TSVSource
    from lit_fed.data.sources.hub import HubSource
    from lit_fed.data.sources.jsonl import JSONLSource
    from lit_fed.data.sources.lines import LinesSource
    from lit_fed.data.sources.parquet import ParquetSource
    from lit_fed.data.sources.pooled_files import PooledFiles
    from lit_fed.data.sources.source import Source
    from lit_fed.data.sources.task_sources import TaskSources
    from lit_fed.data.sources.translation_pairs import TranslationPairs
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "CSVSource",
    "ChoiceQuestions",
    "ClientFiles",
    "HubSource",
    "JSONLSource",
    "LinesSource",
    "ParquetSource",
    "PooledFiles",
    "Source",
    "TSVSource",
    "TaskSources",
    "TranslationPairs",
]
