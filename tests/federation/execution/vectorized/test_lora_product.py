import pytest
import torch

from lit_fed.federation.execution.vectorized.lora_product import LoraProduct


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_values_and_gradients_are_those_of_the_formula(dropped: bool, biased: bool) -> None:
    torch.manual_seed(0)
    x, a, b = torch.randn(3, 5, 4), torch.randn(3, 2, 4), torch.randn(3, 6, 2)
    leaves = [t.double().requires_grad_() for t in (x, a, b)]
    weight, bias = torch.randn(6, 4).double(), torch.randn(6).double() if biased else None
    mask = (torch.rand(3, 5, 4) > 0.5).double() if dropped else None
    out = torch.randn(3, 5, 6).double()

    def product(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        inner = x if mask is None else x * mask
        return LoraProduct.apply(x, inner, weight, bias, a, b, 0.7)

    def formula(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        inner = x if mask is None else x * mask
        return torch.nn.functional.linear(x, weight, bias) + 0.7 * (inner @ a.mT) @ b.mT

    torch.testing.assert_close(product(*leaves), formula(*leaves))
    ours = torch.autograd.grad(product(*leaves), leaves, out)
    theirs = torch.autograd.grad(formula(*leaves), leaves, out)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
    assert torch.autograd.gradcheck(product, leaves)
