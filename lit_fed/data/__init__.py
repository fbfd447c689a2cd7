"""Data of a federation: tables, their encoding, and how they are divided among clients."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.data.bucketing import LengthBucketSampler
    from lit_fed.data.chat_templates import (
        AlpacaTemplate,
        ChatMLTemplate,
        ChatTemplate,
        DialogueTemplate,
    )
    from lit_fed.data.client_data import ClientData
    from lit_fed.data.datamodule import FederatedDataModule
    from lit_fed.data.embedded.answers import answer_is_right
    from lit_fed.data.embedded_instructions import EmbeddedInstructions
    from lit_fed.data.embedded_mistakes import EmbeddedMistakes
    from lit_fed.data.embedded_pairs import EmbeddedPairs
    from lit_fed.data.encodings import (
        CausalLMEncoding,
        ClassificationEncoding,
        Encoding,
        InstructionEncoding,
    )
    from lit_fed.data.features import Features
    from lit_fed.data.partitioners import (
        DirichletPartitioner,
        FewRowsPartitioner,
        IIDPartitioner,
        LabelShardsPartitioner,
        NaturalPartitioner,
        Partitioner,
        QuantitySkewPartitioner,
    )
    from lit_fed.data.records import ChatRecords, InstructionRecords, Records
    from lit_fed.data.sources import (
        ChoiceQuestions,
        ClientFiles,
        CSVSource,
        HubSource,
        JSONLSource,
        LinesSource,
        ParquetSource,
        PooledFiles,
        Source,
        TaskSources,
        TranslationPairs,
        TSVSource,
    )
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "AlpacaTemplate",
    "CSVSource",
    "CausalLMEncoding",
    "ChatMLTemplate",
    "ChatRecords",
    "ChatTemplate",
    "ChoiceQuestions",
    "ClassificationEncoding",
    "ClientData",
    "ClientFiles",
    "DialogueTemplate",
    "DirichletPartitioner",
    "EmbeddedInstructions",
    "EmbeddedMistakes",
    "EmbeddedPairs",
    "Encoding",
    "Features",
    "FederatedDataModule",
    "FewRowsPartitioner",
    "HubSource",
    "IIDPartitioner",
    "InstructionEncoding",
    "InstructionRecords",
    "JSONLSource",
    "LabelShardsPartitioner",
    "LengthBucketSampler",
    "LinesSource",
    "NaturalPartitioner",
    "ParquetSource",
    "Partitioner",
    "PooledFiles",
    "QuantitySkewPartitioner",
    "Records",
    "Source",
    "TSVSource",
    "TaskSources",
    "TranslationPairs",
    "answer_is_right",
]
