"""DDG and the ways in which its clients' consensus is made and exchanged.

A consensus knows passes and payloads; it knows no round loop and not the method that has it.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.ddg.class_consensus import ClassConsensus
    from lit_fed.methods.ddg.consensus import (
        PART,
        Consensus,
        Guidance,
        NoConsensus,
        Passes,
        log_alpha,
    )
    from lit_fed.methods.ddg.ddg import DDG, REPLACED, refuse_packing, refuse_replaced
    from lit_fed.methods.ddg.peer_consensus import PeerConsensus
    from lit_fed.methods.ddg.public_consensus import PublicConsensus
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "DDG",
    "PART",
    "REPLACED",
    "ClassConsensus",
    "Consensus",
    "Guidance",
    "NoConsensus",
    "Passes",
    "PeerConsensus",
    "PublicConsensus",
    "log_alpha",
    "refuse_packing",
    "refuse_replaced",
]
