"""Semantic consensus: what clients answer on a public set, and one label made of the answers to each prompt.

What is here makes labels of answers; it knows no backbone's training, no module and no round loop.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.semantic_consensus.answers.label_answers import LabelAnswers
    from lit_fed.methods.semantic_consensus.answers.public_answers import PublicAnswers
    from lit_fed.methods.semantic_consensus.answers.text_answers import TextAnswers
    from lit_fed.methods.semantic_consensus.ballots import Ballots
    from lit_fed.methods.semantic_consensus.client_group import ClientGroup
    from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
    from lit_fed.methods.semantic_consensus.encoders.answer_encoder import AnswerEncoder
    from lit_fed.methods.semantic_consensus.encoders.hashed_ngram_encoder import HashedNgramEncoder
    from lit_fed.methods.semantic_consensus.prompt_choice import (
        EveryPrompt,
        MostDisagreed,
        PromptChoice,
    )
    from lit_fed.methods.semantic_consensus.selectors.majority_vote import MajorityVote
    from lit_fed.methods.semantic_consensus.selectors.selector import Selector
    from lit_fed.methods.semantic_consensus.semantic_consensus import SemanticConsensus
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
    "Ballots",
    "ClientGroup",
    "ConfidenceWeight",
    "Consensus",
    "EqualWeight",
    "EveryPrompt",
    "HashedNgramEncoder",
    "LabelAnswers",
    "MajorityVote",
    "MostDisagreed",
    "PromptChoice",
    "PromptConsensus",
    "PublicAnswers",
    "Selector",
    "SemanticConsensus",
    "SizeWeight",
    "TextAnswers",
    "VoteWeight",
]
