"""Conformance: whether what aggregates does what it is meant to, by cases whose answers are known. No training."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.conformance.aggregation_subject import AggregationSubject
    from lit_fed.conformance.judgement import Judgement, judge
    from lit_fed.conformance.lora_case import LoRACase, lora_cases
    from lit_fed.conformance.lora_round import LoRAResult, LoRARound
    from lit_fed.conformance.rule_subject import RuleSubject
    from lit_fed.conformance.subject import NotOffered, Subject
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "AggregationSubject",
    "Judgement",
    "LoRACase",
    "LoRAResult",
    "LoRARound",
    "NotOffered",
    "RuleSubject",
    "Subject",
    "judge",
    "lora_cases",
]
