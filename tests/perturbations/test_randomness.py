"""Passes that share their dropout, with and without keeping its masks."""

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import profile

from lit_fed.perturbations import Randomness
from tests.perturbations.tiny_models import MODELS, answer, batch, build


def passes(model: nn.Module, recorded: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The first pass, the one that drops the same, what is drawn next, and the gradients."""
    torch.manual_seed(1)
    randomness = Randomness()
    if recorded:
        with randomness.recorded(model):
            first = answer(model, batch())
    else:
        first = answer(model, batch())
    with randomness.replayed():
        again = answer(model, batch())
    drawn = torch.rand(3)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad((first * again).sum(), parameters, allow_unused=True)
    return first, again, drawn, torch.cat([g.flatten() for g in gradients if g is not None])


@pytest.mark.parametrize("name", MODELS)
def test_keeping_masks_changes_nothing(name: str) -> None:
    model = build(name)
    torch.manual_seed(1)
    plain = answer(model, batch())
    drawn = torch.rand(3)
    for recorded in (False, True):
        first, again, after, gradients = passes(model, recorded)
        torch.testing.assert_close(first, plain)
        torch.testing.assert_close(again, plain)
        assert torch.equal(after, drawn)
        torch.testing.assert_close(gradients, passes(model, not recorded)[3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("inplace", [False, True])
def test_masks_are_those_of_dropout(dtype: torch.dtype, inplace: bool) -> None:
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.3, inplace))
    values = torch.randn(4, 50, 8, dtype=dtype).transpose(1, 2)
    torch.manual_seed(2)
    plain = model(values.clone(memory_format=torch.preserve_format))
    torch.manual_seed(2)
    randomness = Randomness()
    with randomness.recorded(model):
        assert torch.equal(model(values.clone(memory_format=torch.preserve_format)), plain)
    with randomness.replayed():
        assert torch.equal(model(values.clone(memory_format=torch.preserve_format)), plain)


def test_the_second_pass_draws_only_what_the_kernels_draw_themselves() -> None:
    model = build("bert")
    randomness = Randomness()
    counts = []
    for context in (randomness.recorded(model), randomness.replayed()):
        with profile() as profiled, context:
            answer(model, batch())
        counts.append(sum(e.count for e in profiled.key_averages() if e.key == "aten::bernoulli_"))
    layers = model.config.num_hidden_layers
    # after the embeddings, twice a layer, before the head; and within each attention
    assert counts == [2 + 2 * layers + layers, layers]


def test_what_draws_beside_dropout_is_drawn_again() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            dropped = nn.functional.dropout(x + torch.rand(1), 0.5)
            return nn.functional.dropout(dropped * torch.rand(1), 1.0) + dropped * torch.rand(1)

    model = nn.Sequential(nn.Dropout(0.5), Noisy())
    randomness = Randomness()
    with randomness.recorded(model):
        first = model(torch.ones(100))
    with randomness.replayed():
        assert torch.equal(model(torch.ones(100)), first)


def test_models_that_are_compiled_or_do_not_drop_are_left_alone() -> None:
    compiled, plain = build("bert"), nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2))
    compiled.compile()
    for model in (compiled, plain):
        with Randomness().recorded(model):
            assert torch._C._len_torch_function_stack() == 0
    with Randomness().recorded(build("bert")):
        assert torch._C._len_torch_function_stack() == 1
