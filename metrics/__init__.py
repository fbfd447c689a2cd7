"""Metrics of federated and continual fine-tuning, as torchmetrics.

Every metric is a thin :class:`torchmetrics.Metric` over pure functions which are public as well.
Scores run from 0 to 100 unless their documentation says otherwise. What cannot be told from the
data seen so far (nothing was given yet, one task only, a cell never evaluated) is NaN, never a
number which could be taken for a result; a model which never learnt anything scores 0/0 = 0.
"""

from lit_fed.metrics.attack_success_rate import (
    AttackSuccessRate,
    PhraseSuccessRate,
    attack_successes,
    credited_success,
)
from lit_fed.metrics.clean_accuracy_drop import CleanAccuracyDrop, clean_accuracy_drop
from lit_fed.metrics.clean_rows_lost import CleanRowsLost, lost_rows
from lit_fed.metrics.client_fairness import ClientFairness, client_spread, jain_index
from lit_fed.metrics.client_text_similarity import (
    ClientJensenShannon,
    ClientTfidfCosine,
    text_jensen_shannon,
    text_tfidf_cosine,
)
from lit_fed.metrics.communication_volume import CommunicationVolume, communication_volume
from lit_fed.metrics.compression_ratio import CompressionRatio, compressed_size
from lit_fed.metrics.distinct_n import DistinctN, distinct_ngrams
from lit_fed.metrics.duplicate_ngram_rate import DuplicateNgramRate, duplicate_ngrams
from lit_fed.metrics.entailment_rate import EntailmentRate
from lit_fed.metrics.entities_in_text import entities_in
from lit_fed.metrics.exact_match import ExactMatch
from lit_fed.metrics.filler_rate import FillerRate, filler_words
from lit_fed.metrics.generalization_under_shift import (
    GeneralizationUnderShift,
    macro_accuracy,
    shift_ratio,
    worst_accuracy,
)
from lit_fed.metrics.kept_share import KeptShare, kept_shares
from lit_fed.metrics.learning_accuracy import LearningAccuracy, learning_accuracy
from lit_fed.metrics.length_ratio import LengthRatio
from lit_fed.metrics.linear_cka import debiased_linear_cka
from lit_fed.metrics.multiple_choice_accuracy import MultipleChoiceAccuracy, likeliest_choice
from lit_fed.metrics.numbers_in_text import numbers_in
from lit_fed.metrics.output_similarity import jensen_shannon_similarity, sentence_cosine
from lit_fed.metrics.pairwise_cosine import mean_pairwise_cosine
from lit_fed.metrics.parameter_efficiency import (
    ParameterEfficiency,
    changed_share,
    relative_change,
)
from lit_fed.metrics.perplexity import Perplexity
from lit_fed.metrics.prototype_coverage import PrototypeCoverage, within_margin
from lit_fed.metrics.prototype_drift import PrototypeDrift, matched_distances
from lit_fed.metrics.prototype_purity import PrototypePurity, class_purity
from lit_fed.metrics.prototype_usage import PrototypeUsage, dead_share, usage_entropy
from lit_fed.metrics.representation_stability_index import RepresentationStabilityIndex
from lit_fed.metrics.right_answers import RightAnswers
from lit_fed.metrics.rouge_l import RougeL
from lit_fed.metrics.sampling_error import sampling_error
from lit_fed.metrics.semantic_retention_score import (
    SemanticRetentionScore,
    backward_transfer,
    retained_similarity,
    retention_since_learnt,
    semantic_retention,
)
from lit_fed.metrics.source_fidelity import (
    EntityFidelity,
    NumberFidelity,
    matching_entities,
    matching_numbers,
)
from lit_fed.metrics.task_matrix import TaskMatrix
from lit_fed.metrics.task_metric import TaskMetric, above_chance, mean_matrix
from lit_fed.metrics.task_transfer_accuracy import (
    TaskTransferAccuracy,
    forward_transfer,
    task_transfer,
)
from lit_fed.metrics.words import words

__all__ = [
    "AttackSuccessRate",
    "CleanAccuracyDrop",
    "CleanRowsLost",
    "ClientFairness",
    "ClientJensenShannon",
    "ClientTfidfCosine",
    "CommunicationVolume",
    "CompressionRatio",
    "DistinctN",
    "DuplicateNgramRate",
    "EntailmentRate",
    "EntityFidelity",
    "ExactMatch",
    "FillerRate",
    "GeneralizationUnderShift",
    "KeptShare",
    "LearningAccuracy",
    "LengthRatio",
    "MultipleChoiceAccuracy",
    "NumberFidelity",
    "ParameterEfficiency",
    "Perplexity",
    "PhraseSuccessRate",
    "PrototypeCoverage",
    "PrototypeDrift",
    "PrototypePurity",
    "PrototypeUsage",
    "RepresentationStabilityIndex",
    "RightAnswers",
    "RougeL",
    "SemanticRetentionScore",
    "TaskMatrix",
    "TaskMetric",
    "TaskTransferAccuracy",
    "above_chance",
    "attack_successes",
    "backward_transfer",
    "changed_share",
    "class_purity",
    "clean_accuracy_drop",
    "client_spread",
    "communication_volume",
    "compressed_size",
    "credited_success",
    "dead_share",
    "debiased_linear_cka",
    "distinct_ngrams",
    "duplicate_ngrams",
    "entities_in",
    "filler_words",
    "forward_transfer",
    "jain_index",
    "jensen_shannon_similarity",
    "kept_shares",
    "learning_accuracy",
    "likeliest_choice",
    "lost_rows",
    "macro_accuracy",
    "matched_distances",
    "matching_entities",
    "matching_numbers",
    "mean_matrix",
    "mean_pairwise_cosine",
    "numbers_in",
    "relative_change",
    "retained_similarity",
    "retention_since_learnt",
    "sampling_error",
    "semantic_retention",
    "sentence_cosine",
    "shift_ratio",
    "task_transfer",
    "text_jensen_shannon",
    "text_tfidf_cosine",
    "usage_entropy",
    "within_margin",
    "words",
    "worst_accuracy",
]
