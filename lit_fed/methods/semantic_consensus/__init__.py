"""Semantic consensus: clients answer a public set, and the server makes one label of the answers to each prompt.

The parts that make labels of answers know no backbone's training, no module and no round loop.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.semantic_consensus.answers.label_answers import LabelAnswers
    from lit_fed.methods.semantic_consensus.answers.public_answers import PublicAnswers
    from lit_fed.methods.semantic_consensus.answers.text_answers import TextAnswers
    from lit_fed.methods.semantic_consensus.ballots import Ballots
    from lit_fed.methods.semantic_consensus.bounding import bounded
    from lit_fed.methods.semantic_consensus.client_group import ClientGroup
    from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
    from lit_fed.methods.semantic_consensus.encoders.answer_encoder import AnswerEncoder
    from lit_fed.methods.semantic_consensus.encoders.backbone_encoder import BackboneEncoder
    from lit_fed.methods.semantic_consensus.encoders.calibration import calibrated_threshold
    from lit_fed.methods.semantic_consensus.encoders.hashed_ngram_encoder import HashedNgramEncoder
    from lit_fed.methods.semantic_consensus.encoders.sentence_transformer_encoder import (
        SentenceTransformerEncoder,
    )
    from lit_fed.methods.semantic_consensus.own_models import OwnModelsMixin
    from lit_fed.methods.semantic_consensus.payload_size import payload_ratio
    from lit_fed.methods.semantic_consensus.prompt_choice import (
        EveryPrompt,
        MostDisagreed,
        PromptChoice,
    )
    from lit_fed.methods.semantic_consensus.randomized_response import RandomizedResponse
    from lit_fed.methods.semantic_consensus.report import effective_labels, label_churn
    from lit_fed.methods.semantic_consensus.selectors.cluster_medoid import ClusterMedoid
    from lit_fed.methods.semantic_consensus.selectors.dawid_skene import DawidSkene
    from lit_fed.methods.semantic_consensus.selectors.majority_vote import MajorityVote
    from lit_fed.methods.semantic_consensus.selectors.medoid import Medoid
    from lit_fed.methods.semantic_consensus.selectors.radial_consensus import RadialConsensus
    from lit_fed.methods.semantic_consensus.selectors.random_client import RandomClient
    from lit_fed.methods.semantic_consensus.selectors.selector import Selector
    from lit_fed.methods.semantic_consensus.semantic_consensus import SemanticConsensus
    from lit_fed.methods.semantic_consensus.soft_consensus import SoftConsensus
    from lit_fed.methods.semantic_consensus.vote_weights import (
        ConfidenceWeight,
        EqualWeight,
        SizeWeight,
        VoteWeight,
    )
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "AnswerEncoder",
    "BackboneEncoder",
    "Ballots",
    "ClientGroup",
    "ClusterMedoid",
    "ConfidenceWeight",
    "Consensus",
    "DawidSkene",
    "EqualWeight",
    "EveryPrompt",
    "HashedNgramEncoder",
    "LabelAnswers",
    "MajorityVote",
    "Medoid",
    "MostDisagreed",
    "OwnModelsMixin",
    "PromptChoice",
    "PromptConsensus",
    "PublicAnswers",
    "RadialConsensus",
    "RandomClient",
    "RandomizedResponse",
    "Selector",
    "SemanticConsensus",
    "SentenceTransformerEncoder",
    "SizeWeight",
    "SoftConsensus",
    "TextAnswers",
    "VoteWeight",
    "bounded",
    "calibrated_threshold",
    "effective_labels",
    "label_churn",
    "payload_ratio",
]
