"""Checks of what has to fit together for a vote."""

from __future__ import annotations

from collections.abc import Mapping

from lit_fed.backbones import BlackBox
from lit_fed.configuration_error import ConfigurationError
from lit_fed.methods.semantic_consensus.randomized_response import RandomizedResponse
from lit_fed.methods.semantic_consensus.vote_weights import VoteWeight


def check_votes(
    vote_weight: VoteWeight, private: bool, black_boxes: Mapping[str, BlackBox]
) -> None:
    """Say before training which answers cannot be weighed, and what is wrong with a black box.

    Args:
        vote_weight: How much an answer counts.
        private: Whether answers are under differential privacy.
        black_boxes: By the settings that give them.

    Raises:
        ConfigurationError: If there is something.
    """
    weighing = "`model.vote_weight` is expected to be EqualWeight or SizeWeight where"
    came = f"but got {type(vote_weight).__name__}"
    if vote_weight.by_confidence and private:
        raise ConfigurationError(
            f"{weighing} answers are under differential privacy, since confidences are not, {came}"
        )
    for name, box in black_boxes.items():
        if vote_weight.by_confidence:
            raise ConfigurationError(
                f"{weighing} `model.{name}` is a black box, which does not say how sure it is, {came}"
            )
        if private:
            raise ConfigurationError(
                f"answers under differential privacy are expected of models alone, but `model.{name}` is a black "
                "box, whose missing answers have no noise: leave out `model.answers.epsilon`"
            )
        try:
            box.check()
        except ConfigurationError as error:
            raise ConfigurationError(f"`model.{name}`: {error}") from None


def check_noise(assumed: RandomizedResponse | None, given: RandomizedResponse | None) -> None:
    """Say before training that a selector takes answers out of another noise than clients put on them.

    One that assumes none counts what was sent, noise or not.

    Args:
        assumed: What the selector takes the answers to come from.
        given: What the clients answer by.

    Raises:
        ConfigurationError: If they differ.
    """
    if assumed is None or (given is not None and assumed.is_like(given)):
        return
    raise ConfigurationError(
        f"`model.selector.response` is expected to be what clients answer by, which is "
        f"{'no noise, since `model.answers.epsilon` is null' if given is None else given}, but got {assumed}"
    )
