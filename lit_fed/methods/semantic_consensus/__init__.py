"""Semantic consensus: what clients answer on a public set, and one label made of the answers to each prompt.

What is here makes labels of answers; it knows no backbone's training, no module and no round loop.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.semantic_consensus.ballots import Ballots
    from lit_fed.methods.semantic_consensus.bounding import bounded
    from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
    from lit_fed.methods.semantic_consensus.encoders.answer_encoder import AnswerEncoder
    from lit_fed.methods.semantic_consensus.encoders.backbone_encoder import BackboneEncoder
    from lit_fed.methods.semantic_consensus.encoders.calibration import calibrated_threshold
    from lit_fed.methods.semantic_consensus.encoders.hashed_ngram_encoder import HashedNgramEncoder
    from lit_fed.methods.semantic_consensus.encoders.sentence_transformer_encoder import (
        SentenceTransformerEncoder,
    )
    from lit_fed.methods.semantic_consensus.payload_size import payload_ratio
    from lit_fed.methods.semantic_consensus.randomized_response import RandomizedResponse
    from lit_fed.methods.semantic_consensus.report import effective_labels, label_churn
    from lit_fed.methods.semantic_consensus.selectors.cluster_medoid import ClusterMedoid
    from lit_fed.methods.semantic_consensus.selectors.dawid_skene import DawidSkene
    from lit_fed.methods.semantic_consensus.selectors.majority_vote import MajorityVote
    from lit_fed.methods.semantic_consensus.selectors.medoid import Medoid
    from lit_fed.methods.semantic_consensus.selectors.radial_consensus import RadialConsensus
    from lit_fed.methods.semantic_consensus.selectors.random_client import RandomClient
    from lit_fed.methods.semantic_consensus.selectors.selector import Selector
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "AnswerEncoder",
    "BackboneEncoder",
    "Ballots",
    "ClusterMedoid",
    "Consensus",
    "DawidSkene",
    "HashedNgramEncoder",
    "MajorityVote",
    "Medoid",
    "PromptConsensus",
    "RadialConsensus",
    "RandomClient",
    "RandomizedResponse",
    "Selector",
    "SentenceTransformerEncoder",
    "bounded",
    "calibrated_threshold",
    "effective_labels",
    "label_churn",
    "payload_ratio",
]
