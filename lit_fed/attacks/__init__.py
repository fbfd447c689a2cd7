"""Attacks on a federation: attachments that make some clients malicious, to see what a defence is worth."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.attacks.attack import Attack
    from lit_fed.attacks.boosted_update import BoostedUpdate
    from lit_fed.attacks.label_flipping import LabelFlipping
    from lit_fed.attacks.neurotoxin import Neurotoxin
    from lit_fed.attacks.phrase_poisoning import PhrasePoisoning
    from lit_fed.attacks.random_update import RandomUpdate
    from lit_fed.attacks.row_poisoning import RowPoisoning
    from lit_fed.attacks.sign_flip import SignFlip
    from lit_fed.attacks.surrogate_poisoning import SurrogatePoisoning
    from lit_fed.attacks.target_labels import KnownLabels
    from lit_fed.attacks.teacher_corruption import TeacherCorruption
    from lit_fed.attacks.trigger_poisoning import TriggerPoisoning
    from lit_fed.attacks.update_attack import UpdateAttack
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "Attack",
    "BoostedUpdate",
    "KnownLabels",
    "LabelFlipping",
    "Neurotoxin",
    "PhrasePoisoning",
    "RandomUpdate",
    "RowPoisoning",
    "SignFlip",
    "SurrogatePoisoning",
    "TeacherCorruption",
    "TriggerPoisoning",
    "UpdateAttack",
]
