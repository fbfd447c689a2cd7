"""Metrics of federated and continual fine-tuning, as torchmetrics.

Every metric is a thin :class:`torchmetrics.Metric` over pure functions which are public as well.
Scores run from 0 to 100 unless their documentation says otherwise. What cannot be told from the
data seen so far (nothing was given yet, one task only, a cell never evaluated) is NaN, never a
number which could be taken for a result; a model which never learnt anything scores 0/0 = 0.
"""

from lit_fed.metrics.client_fairness import ClientFairness, client_spread, jain_index
from lit_fed.metrics.communication_volume import CommunicationVolume, communication_volume
from lit_fed.metrics.generalization_under_shift import (
    GeneralizationUnderShift,
    macro_accuracy,
    shift_ratio,
    worst_accuracy,
)
from lit_fed.metrics.learning_accuracy import LearningAccuracy, learning_accuracy
from lit_fed.metrics.linear_cka import debiased_linear_cka
from lit_fed.metrics.output_similarity import jensen_shannon_similarity, sentence_cosine
from lit_fed.metrics.parameter_efficiency import (
    ParameterEfficiency,
    changed_share,
    relative_change,
)
from lit_fed.metrics.representation_stability_index import RepresentationStabilityIndex
from lit_fed.metrics.sampling_error import sampling_error
from lit_fed.metrics.semantic_retention_score import (
    SemanticRetentionScore,
    backward_transfer,
    retained_similarity,
    retention_since_learnt,
    semantic_retention,
)
from lit_fed.metrics.task_matrix import TaskMatrix
from lit_fed.metrics.task_metric import TaskMetric, above_chance, mean_matrix
from lit_fed.metrics.task_transfer_accuracy import (
    TaskTransferAccuracy,
    forward_transfer,
    task_transfer,
)

__all__ = [
    "ClientFairness",
    "CommunicationVolume",
    "GeneralizationUnderShift",
    "LearningAccuracy",
    "ParameterEfficiency",
    "RepresentationStabilityIndex",
    "SemanticRetentionScore",
    "TaskMatrix",
    "TaskMetric",
    "TaskTransferAccuracy",
    "above_chance",
    "backward_transfer",
    "changed_share",
    "client_spread",
    "communication_volume",
    "debiased_linear_cka",
    "forward_transfer",
    "jain_index",
    "jensen_shannon_similarity",
    "learning_accuracy",
    "macro_accuracy",
    "mean_matrix",
    "relative_change",
    "retained_similarity",
    "retention_since_learnt",
    "sampling_error",
    "semantic_retention",
    "sentence_cosine",
    "shift_ratio",
    "task_transfer",
    "worst_accuracy",
]
