"""Checks of what has to fit together for a vote."""

from __future__ import annotations

from collections.abc import Mapping

from lit_fed.backbones import Backbone, BlackBox
from lit_fed.backbones.endpoint.unreachable_error import UnreachableError
from lit_fed.configuration_error import ConfigurationError
from lit_fed.methods.semantic_consensus.prompt_choice import PromptChoice
from lit_fed.methods.semantic_consensus.randomized_response import RandomizedResponse
from lit_fed.methods.semantic_consensus.selectors.selector import Selector
from lit_fed.methods.semantic_consensus.vote_weights import VoteWeight


def check_votes(
    vote_weight: VoteWeight, private: bool, black_boxes: Mapping[str, BlackBox]
) -> list[str]:
    """Say before training which answers cannot be weighed, and what is wrong with a black box.

    Args:
        vote_weight: How much an answer counts.
        private: Whether answers are under differential privacy.
        black_boxes: By the settings that give them.

    Returns:
        What is said of those black boxes that do not answer now.

    Raises:
        ConfigurationError: If there is something.
    """
    weighing = "`model.vote_weight` is expected to be EqualWeight or SizeWeight where"
    came = f"but got {type(vote_weight).__name__}"
    unreachable = []
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
        except UnreachableError as error:
            unreachable.append(f"`model.{name}`: {error}")
        except ConfigurationError as error:
            raise ConfigurationError(f"`model.{name}`: {error}") from None
    return unreachable


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


def check_choice(prompt_choice: PromptChoice, selector: Selector, self_training: bool) -> None:
    """Say when a method is built that prompts cannot be chosen by how sure their labels are.

    Args:
        prompt_choice: Which prompts are asked.
        selector: Makes their labels.
        self_training: Whether each client learns from its own answers, of which the server knows none.

    Raises:
        ValueError: If they are chosen so all the same.
    """
    if not prompt_choice.by_confidence:
        return
    expected = "`model.prompt_choice` is expected not to go by how sure labels are where"
    came = f"but got {type(prompt_choice).__name__}"
    if self_training:
        raise ValueError(f"{expected} `model.self_training` is true and there are none, {came}")
    if not selector.knows_confidence:
        kind = type(selector).__name__
        raise ValueError(f"{expected} `model.selector` is {kind}, which is always as sure, {came}")


def check_as_many_labels(what: str, backbones: Mapping[str, Backbone]) -> None:
    """Say before training that models have different numbers of labels.

    Args:
        what: What expects them to have as many.
        backbones: The models by the settings that give them.

    Raises:
        ConfigurationError: If they differ.
    """
    sizes = {name: backbone.num_labels for name, backbone in backbones.items()}
    if len({*sizes.values()}) > 1:
        told = ", ".join(f"`model.{name}` has {size}" for name, size in sizes.items())
        raise ConfigurationError(
            f"{what} expects backbones with as many labels as each other, but {told}"
        )
