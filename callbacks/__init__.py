"""What a run shows and writes: progress, curves, tables, checkpoints, the adapter."""

from lit_fed.callbacks.adapter_export import AdapterExport
from lit_fed.callbacks.curves import FederationCurves
from lit_fed.callbacks.defaults import default_callbacks
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.callbacks.metrics_csv import MetricsCSV
from lit_fed.callbacks.partition_table import PartitionTable
from lit_fed.callbacks.progress import RoundProgressBar
from lit_fed.callbacks.round_checkpoint import RoundCheckpoint, last_checkpoint
from lit_fed.callbacks.run_summary import RunSummary

__all__ = [
    "AdapterExport",
    "FederatedCallback",
    "FederationCurves",
    "MetricsCSV",
    "PartitionTable",
    "RoundCheckpoint",
    "RoundProgressBar",
    "RunSummary",
    "default_callbacks",
    "last_checkpoint",
]
