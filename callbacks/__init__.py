"""What a run shows and writes: progress, curves, tables, checkpoints, the adapter."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.callbacks.adapter_export import AdapterExport
    from lit_fed.callbacks.backdoor_evaluation import BackdoorEvaluation
    from lit_fed.callbacks.classification_evaluation import ClassificationEvaluation
    from lit_fed.callbacks.client_metrics import ClientMetrics
    from lit_fed.callbacks.client_similarity import ClientSimilarity
    from lit_fed.callbacks.consensus_samples import ConsensusSamples
    from lit_fed.callbacks.curves import FederationCurves
    from lit_fed.callbacks.defaults import default_callbacks
    from lit_fed.callbacks.defense_table import DefenseTable
    from lit_fed.callbacks.drift_alarm import DriftAlarm
    from lit_fed.callbacks.energy_meter import EnergyMeter
    from lit_fed.callbacks.fairness_evaluation import FairnessEvaluation
    from lit_fed.callbacks.federated_callback import FederatedCallback
    from lit_fed.callbacks.generation_evaluation import GenerationEvaluation
    from lit_fed.callbacks.hyperparameters import Hyperparameters
    from lit_fed.callbacks.learning_check import LearningCheck
    from lit_fed.callbacks.learning_rate import ClientLearningRate
    from lit_fed.callbacks.lightning_callbacks import check_callbacks, check_loggers
    from lit_fed.callbacks.metrics_csv import MetricsCSV
    from lit_fed.callbacks.multiple_choice import MultipleChoice
    from lit_fed.callbacks.parameter_change import ParameterChange
    from lit_fed.callbacks.partition_table import PartitionTable
    from lit_fed.callbacks.peak_memory import PeakMemory
    from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation
    from lit_fed.callbacks.phrase_backdoor_evaluation import PhraseBackdoorEvaluation
    from lit_fed.callbacks.progress import RoundProgressBar
    from lit_fed.callbacks.prototype_audit import PrototypeAudit
    from lit_fed.callbacks.representation_stability import RepresentationStability
    from lit_fed.callbacks.rewriting_samples import RewritingSamples
    from lit_fed.callbacks.round_checkpoint import RoundCheckpoint
    from lit_fed.callbacks.round_profiler import RoundProfiler
    from lit_fed.callbacks.row_defense_report import RowDefenseReport
    from lit_fed.callbacks.run_summary import RunSummary
    from lit_fed.callbacks.sample_generations import SampleGenerations
    from lit_fed.callbacks.shift_evaluation import ShiftEvaluation
    from lit_fed.callbacks.task_evaluation import TaskEvaluation
    from lit_fed.callbacks.term_strength import TermStrength
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "AdapterExport",
    "BackdoorEvaluation",
    "ClassificationEvaluation",
    "ClientLearningRate",
    "ClientMetrics",
    "ClientSimilarity",
    "ConsensusSamples",
    "DefenseTable",
    "DriftAlarm",
    "EnergyMeter",
    "FairnessEvaluation",
    "FederatedCallback",
    "FederationCurves",
    "GenerationEvaluation",
    "Hyperparameters",
    "LearningCheck",
    "MetricsCSV",
    "MultipleChoice",
    "ParameterChange",
    "PartitionTable",
    "PeakMemory",
    "PeriodicEvaluation",
    "PhraseBackdoorEvaluation",
    "PrototypeAudit",
    "RepresentationStability",
    "RewritingSamples",
    "RoundCheckpoint",
    "RoundProfiler",
    "RoundProgressBar",
    "RowDefenseReport",
    "RunSummary",
    "SampleGenerations",
    "ShiftEvaluation",
    "TaskEvaluation",
    "TermStrength",
    "check_callbacks",
    "check_loggers",
    "default_callbacks",
]
