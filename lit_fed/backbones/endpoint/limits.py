"""Limits: how long and how often an endpoint is asked, and how much of what it says is read."""

from __future__ import annotations

from dataclasses import dataclass

from lit_fed.limits import require_at_least, require_positive


@dataclass(frozen=True)
class EndpointLimits:
    """How long and how often an endpoint is asked; see :class:`~lit_fed.backbones.HTTPGenerator`.

    Raises:
        ValueError: If a number is out of range, or a count no whole one.
    """

    timeout: float
    prompt_timeout: float
    batch_timeout: float
    max_retries: int
    concurrency: int
    max_answer_bytes: int
    give_up_after: int

    def __post_init__(self) -> None:
        for setting in ("timeout", "prompt_timeout", "batch_timeout"):
            require_positive(setting, getattr(self, setting))
        for setting in ("concurrency", "max_answer_bytes", "give_up_after"):
            require_at_least(setting, getattr(self, setting), 1)
        require_at_least("max_retries", self.max_retries, 0)
