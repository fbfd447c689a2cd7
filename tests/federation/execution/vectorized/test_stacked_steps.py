from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_fed.federation.execution.vectorized.stacked_steps import StackedSteps

CLIENTS, SHAPES = 3, ((2, 3), (4,))
MAKERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5, centered=True),
}


class Wrapped:
    """As Fabric wraps it."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self._callbacks, self.alone = optimizer, [], 0

    def step(self) -> None:
        self.alone += 1
        self.optimizer.step()


def setting(make: Callable[[Any], torch.optim.Optimizer]) -> Any:
    torch.manual_seed(0)
    stacks = [torch.randn(CLIENTS, *shape) for shape in SHAPES]
    own = [[torch.nn.Parameter(stack[k]) for stack in stacks] for k in range(CLIENTS)]
    copies = [[torch.nn.Parameter(p.detach().clone()) for p in ps] for ps in own]
    return SimpleNamespace(
        own=own,
        copies=copies,
        steps=StackedSteps([stacks], [[parameters] for parameters in own]),
        wrapped=[Wrapped(make(parameters)) for parameters in own],
        references=[make(parameters) for parameters in copies],
    )


def take(s: Any, clients: list[int], without: int | None = None) -> None:
    """A step of these clients, and of their references; one parameter may have no gradient."""
    for number, shape in enumerate(SHAPES):
        gradient = torch.randn(CLIENTS, *shape)
        for k in clients:
            given = None if number == without else gradient[k]
            s.own[k][number].grad = given
            s.copies[k][number].grad = None if given is None else given.clone()
    s.steps.step({k: s.wrapped[k] for k in clients})
    for k in clients:
        s.references[k].step()


def agree(s: Any) -> None:
    for k in range(CLIENTS):
        for mine, other in zip(s.own[k], s.copies[k], strict=True):
            assert torch.equal(mine, other)
            ours, theirs = s.wrapped[k].optimizer.state, s.references[k].state
            assert (mine in ours) == (other in theirs)
            for name, value in theirs.get(other, {}).items():
                if isinstance(value, Tensor):
                    assert torch.equal(ours[mine][name], value), name


@pytest.mark.parametrize("name", MAKERS)
def test_steps_and_states_are_those_of_each_alone(name: str) -> None:
    s = setting(MAKERS[name])
    for _ in range(2):
        take(s, [0, 1, 2])
        agree(s)
    assert [w.alone for w in s.wrapped] == [0, 0, 0]
    take(s, [0, 1])  # one has fewer steps
    take(s, [1])
    take(s, [0, 1, 2])
    agree(s)
    s.steps.release()
    take(s, [0, 2])
    agree(s)


def test_a_parameter_without_gradient_stays() -> None:
    s = setting(MAKERS["adamw"])
    take(s, [0, 1, 2], without=1)
    agree(s)
    take(s, [0, 1, 2])
    agree(s)


def test_restored_states_are_taken_over() -> None:
    s = setting(MAKERS["adamw"])
    for w in s.wrapped:
        w.optimizer.load_state_dict(w.optimizer.state_dict())
    take(s, [0, 1, 2])
    for k, w in enumerate(s.wrapped):
        w.optimizer.load_state_dict(s.references[k].state_dict())
    s.steps.release()
    take(s, [0, 1, 2])
    agree(s)
    assert [w.alone for w in s.wrapped] == [0, 0, 0]


def differ_in_rate(s: Any) -> None:
    for optimizer in (s.wrapped[1].optimizer, s.references[1]):
        optimizer.param_groups[0]["lr"] = 0.5


def differ_in_kind(s: Any) -> None:
    s.wrapped[1] = Wrapped(torch.optim.Adagrad(s.own[1]))
    s.references[1] = torch.optim.Adagrad(s.copies[1])


def watched(s: Any) -> None:
    s.wrapped[1].optimizer.register_step_pre_hook(lambda *args: None)


@pytest.mark.parametrize("change", [differ_in_rate, differ_in_kind, watched])
def test_unlike_optimizers_step_alone(change: Callable[[Any], None]) -> None:
    s = setting(MAKERS["adamw"])
    take(s, [0, 1, 2])
    change(s)
    take(s, [0, 1, 2])
    agree(s)
    assert [w.alone for w in s.wrapped] == [1, 1, 1]


def test_schedules_know_of_the_step(recwarn: pytest.WarningsRecorder) -> None:
    s = setting(MAKERS["sgd"])
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(w.optimizer, lambda step: 1.0) for w in s.wrapped
    ]
    take(s, [0, 1, 2])
    for schedule in schedules:
        schedule.step()
    assert not recwarn.list
