import pytest
import torch
from torch.autograd import gradcheck

from lit_fed.losses import (
    WeightRegularizationMixin,
    weight_regularization,
)


def test_weight_regularization_by_hand() -> None:
    delta = {"attention": torch.tensor([1.0, 3.0]), "norm": torch.tensor(2.0)}
    size = {"attention": torch.tensor([2.0, 2.0]), "norm": torch.tensor(8.0)}
    assert weight_regularization(delta, size).item() == pytest.approx(1.0 + 0.25)
    halved = weight_regularization(delta, size, {"attention": 0.5})
    assert halved.item() == pytest.approx(0.5 + 0.25)
    nothing = {"norm": torch.zeros(2)}
    assert weight_regularization(nothing, nothing).item() == 0


def test_gradient_against_finite_differences() -> None:
    delta = torch.rand(3, dtype=torch.float64, requires_grad=True)
    sizes = {"norm": torch.rand(3, dtype=torch.float64) + 0.5}
    assert gradcheck(lambda d: weight_regularization({"norm": d}, sizes, {"norm": 0.3}), delta)


def test_bad_input_is_named() -> None:
    one = {"norm": torch.tensor(1.0)}
    with pytest.raises(ValueError, match=r"expected for the sites \['norm'\], but got \['mlp'\]"):
        weight_regularization(one, one, {"mlp": 1.0})
    with pytest.raises(ValueError, match="expected to have the same sites and at least one"):
        weight_regularization({}, {})
    with pytest.raises(ValueError, match=r"`model.site_weights.norm` is expected"):
        WeightRegularizationMixin(site_weights={"norm": -1.0})
