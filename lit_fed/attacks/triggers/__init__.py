"""Triggers: what an attacker writes into a text for a backdoored model to answer to."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.attacks.triggers.candidates import nearest_candidate
    from lit_fed.attacks.triggers.sentence_trigger import SentenceTrigger
    from lit_fed.attacks.triggers.target_like_trigger import TargetLikeTrigger
    from lit_fed.attacks.triggers.template_trigger import TemplateTrigger
    from lit_fed.attacks.triggers.trigger import Trigger
    from lit_fed.attacks.triggers.word_trigger import WordTrigger
    from lit_fed.attacks.triggers.writing import triggered_rows
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "SentenceTrigger",
    "TargetLikeTrigger",
    "TemplateTrigger",
    "Trigger",
    "WordTrigger",
    "nearest_candidate",
    "triggered_rows",
]
