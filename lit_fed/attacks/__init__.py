"""Attacks on a federation: attachments that make some clients malicious, to see what a defence is worth."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.attacks.boosted_update import BoostedUpdate
    from lit_fed.attacks.random_update import RandomUpdate
    from lit_fed.attacks.sign_flip import SignFlip
    from lit_fed.attacks.update_attack import UpdateAttack
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["BoostedUpdate", "RandomUpdate", "SignFlip", "UpdateAttack"]
