"""The prototype margin beside NumPy and scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch.autograd import gradcheck

from lit_fed.losses import PrototypeMarginMixin, fit_projector, prototype_margin
from lit_fed.losses.prototype_margin import prototype_cosines


def draw() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    states = torch.randn(6, 5, generator=source, dtype=torch.float64)
    return states, torch.randn(4, 5, generator=source, dtype=torch.float64)


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.9])
def test_agrees_with_scikit_learn(margin: float) -> None:
    states, prototypes = draw()
    cosines = cosine_similarity(states.numpy(), prototypes.numpy())
    weight, mask = np.array([1, 2, 0.5, 9, 1, 0]), np.array([1, 1, 1, 0, 1, 1], bool)
    hinge = np.maximum(0, 1 - cosines.max(1) - margin)
    expected = np.average(hinge[mask], weights=weight[mask])
    got = prototype_margin(
        states, prototypes, None, margin, torch.from_numpy(mask), torch.from_numpy(weight)
    )
    assert got.item() == pytest.approx(expected, rel=1e-12)
    places = np.array([0, 3, 1, 1, 2, 0])
    hinge = np.maximum(0, 1 - cosines[np.arange(6), places] - margin)
    got = prototype_margin(states, prototypes, torch.from_numpy(places), margin)
    assert got.item() == pytest.approx(hinge.mean(), rel=1e-12)


def test_the_nearest_is_sought_among_those_that_are_allowed() -> None:
    states, prototypes = draw()
    allowed = torch.zeros(6, 4, dtype=torch.bool)
    allowed[:, 1] = allowed[:3, 2] = True
    cosines = cosine_similarity(states.numpy(), prototypes.numpy())
    best = np.where(allowed.numpy(), cosines, -2).max(1)
    got = prototype_margin(states, prototypes, margin=0.1, allowed=allowed)
    assert got.item() == pytest.approx(np.maximum(0, 0.9 - best).mean(), rel=1e-12)


def test_lengths_do_not_matter_and_the_gradient_is_right() -> None:
    states, prototypes = draw()
    value = prototype_margin(states, prototypes)
    torch.testing.assert_close(prototype_margin(3 * states, 0.1 * prototypes), value)
    states.requires_grad_()
    assert gradcheck(lambda r: prototype_margin(r, prototypes, torch.arange(6) % 4, 0.3), states)


def test_within_the_margin_there_is_exactly_nothing() -> None:
    states, _ = draw()
    states.requires_grad_()
    loss = prototype_margin(states, states.detach() + 1e-3, torch.arange(6), margin=0.3)
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(states.grad) == 0


def test_prototypes_get_no_gradient() -> None:
    states, prototypes = draw()
    prototypes.requires_grad_()
    assert not prototype_margin(states, prototypes).requires_grad


class Method(PrototypeMarginMixin):
    """The mixin alone."""


def student(hidden: torch.Tensor | None, lengths: list[int]) -> SimpleNamespace:
    mask = torch.arange(3) < torch.tensor(lengths).unsqueeze(-1)
    return SimpleNamespace(logits=torch.zeros(len(lengths), 2), hidden=hidden, attention_mask=mask)


def test_the_mixin_pools_projects_and_weighs() -> None:
    source = torch.Generator().manual_seed(1)
    hidden, prototypes = torch.randn(3, 3, 6, generator=source), draw()[1].float()
    pooled = torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)])
    projector = fit_projector(
        torch.randn(20, 6, generator=source), torch.randn(20, 5, generator=source)
    )
    projected = pooled.numpy() @ projector.weight.numpy().T + projector.bias.numpy()
    cosines = cosine_similarity(projected, prototypes.numpy()).max(1)
    weight = torch.tensor([1.0, 3.0, 7.0])
    expected = 2 * np.average(np.maximum(0, 1 - cosines - 0.2), weights=[1, 3])
    method = Method(lambda_prototype=2.0, margin=0.2)
    # The last row has no token, and does not count.
    got = method.prototype_margin_loss(
        student(hidden, [3, 2, 0]), prototypes, None, weight, projector=projector
    )
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_off_looks_at_nothing_and_bad_settings_are_named() -> None:
    off = Method(lambda_prototype=0.0)
    assert off.prototype_margin_loss(student(None, [1]), torch.ones(1, 4)).item() == 0
    with pytest.raises(ValueError, match=r"`student` is expected to have hidden states"):
        Method().prototype_margin_loss(student(None, [1]), torch.ones(1, 4))
    with pytest.raises(ValueError, match=r"`model.margin` .* at least 0 and below 2.* but got 2.5"):
        Method(margin=2.5)
    with pytest.raises(ValueError, match=r"`model.lambda_prototype` .* at least 0, but got nan"):
        Method(lambda_prototype=float("nan"))
    with pytest.raises(ValueError, match=r"width of the prototypes, 4, but have 6: a projector"):
        prototype_margin(torch.ones(1, 6), torch.ones(1, 4))


def test_cosines_are_not_rounded_under_mixed_precision() -> None:
    states, prototypes = (one.float() for one in draw())
    expected = prototype_cosines(states, prototypes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prototype_cosines(states, prototypes), expected)
        half = prototype_cosines(states.bfloat16(), prototypes)
    assert half.dtype == torch.float32
