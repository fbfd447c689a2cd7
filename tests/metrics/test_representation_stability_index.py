import re

import pytest
import torch
from torch import Tensor

from lit_fed.metrics import RepresentationStabilityIndex, debiased_linear_cka


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_mean_over_groups_and_layers_of_different_widths() -> None:
    rsi = RepresentationStabilityIndex()
    expected = []
    for group in range(2):
        for layer, width in enumerate((4, 9, 16)):
            reference = random(40, width, seed=layer)
            features = reference + (group + 0.5) * random(40, width, seed=100 + layer)
            expected.append(debiased_linear_cka(features, reference).clamp(0, 1))
            rsi.update(features, reference, group, layer)
    assert rsi.compute().item() == pytest.approx(100 * torch.stack(expected).mean().item())


def test_batches_in_any_order_equal_the_whole() -> None:
    x, y, whole, parts = (
        random(50, 6),
        random(50, 6) + random(50, 6, seed=1),
        RepresentationStabilityIndex(),
        RepresentationStabilityIndex(),
    )
    whole.update(x, y, group=1)
    whole.update(x, x, group=0)
    # The last batch is smaller than what CKA needs on its own.
    for start in (48, 0, 16, 32):
        rows = slice(start, min(start + 16, 48) if start < 48 else 50)
        parts.update(x[rows], x[rows], group=0)
        parts.update(x[rows], y[rows], group=1)
    torch.testing.assert_close(parts.compute(), whole.compute())


def test_clients_of_another_width_against_the_global_model() -> None:
    rsi = RepresentationStabilityIndex()
    x = random(40, 6)
    rsi.update(torch.cat([x, x], dim=1), x, group=0)
    assert rsi.compute().item() == pytest.approx(100.0)


def test_unrelated_features_are_clipped_at_0() -> None:
    for seed in range(10):
        rsi = RepresentationStabilityIndex()
        rsi.update(random(200, 4, seed=seed), random(200, 4, seed=100 + seed))
        assert 0 <= rsi.compute() < 10


def test_collapsed_representation_scores_0() -> None:
    rsi = RepresentationStabilityIndex()
    rsi.update(torch.full((20, 4), 0.3), random(20, 4))
    assert rsi.compute().item() == 0.0


def test_one_task() -> None:
    rsi = RepresentationStabilityIndex()
    x = random(20, 4)
    rsi.update(x, x)
    assert rsi.compute().item() == pytest.approx(100.0)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_empty() -> None:
    rsi = RepresentationStabilityIndex()
    assert rsi.compute().isnan()
    rsi.update(torch.empty(0, 4), torch.empty(0, 4))
    assert rsi.compute().isnan()


def test_forward_gives_the_batch_and_keeps_all() -> None:
    rsi = RepresentationStabilityIndex()
    x, y = random(30, 4), random(30, 4, seed=1)
    assert rsi(x, x).item() == pytest.approx(100.0)
    rsi(y, x)
    expected = debiased_linear_cka(torch.cat([x, y]), torch.cat([x, x])).item()
    assert rsi.compute().item() == pytest.approx(100 * expected, rel=1e-5)


def test_holds_no_graph_and_no_view_of_what_changes_later() -> None:
    rsi = RepresentationStabilityIndex()
    x = random(20, 4).requires_grad_()
    rsi.update(x * 2, x)
    assert not rsi.features[0].requires_grad
    assert rsi.features[0].grad_fn is None


def test_reset() -> None:
    rsi = RepresentationStabilityIndex()
    rsi.update(random(20, 4), random(20, 4, seed=1))
    rsi.reset()
    rsi.update(random(20, 4), random(20, 4))
    assert rsi.compute().item() == pytest.approx(100.0)


def test_too_few_probes() -> None:
    rsi = RepresentationStabilityIndex()
    rsi.update(torch.ones(3, 2), torch.ones(3, 2), group=1, layer=2)
    with pytest.raises(ValueError, match="group 1, layer 2 is expected to have at least 4 probes"):
        rsi.compute()


def test_two_widths_in_one_layer() -> None:
    rsi = RepresentationStabilityIndex()
    rsi.update(random(8, 2), random(8, 2))
    rsi.update(random(8, 3), random(8, 2))
    message = "group 0, layer 0 is expected to have features of one width, but got [2, 3]"
    with pytest.raises(ValueError, match=re.escape(message)):
        rsi.compute()


def test_bad_input() -> None:
    rsi = RepresentationStabilityIndex()
    with pytest.raises(ValueError, match=re.escape("same probes, but have [5, 2] and [4, 2]")):
        rsi.update(torch.ones(5, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="`group` is expected to be at least 0, but got -1"):
        rsi.update(torch.ones(5, 2), torch.ones(5, 2), group=-1)
    with pytest.raises(TypeError, match="`layer` is expected to be an integer, but got 'last'"):
        rsi.update(torch.ones(5, 2), torch.ones(5, 2), layer="last")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`chunk_size` is expected to be at least 1, but got 0"):
        RepresentationStabilityIndex(chunk_size=0)


def test_the_standard_error_is_the_spread_over_other_probes() -> None:
    torch.manual_seed(0)
    found, errors = [], []
    for _ in range(200):
        rsi = RepresentationStabilityIndex()
        x = torch.randn(64, 4)
        rsi.update(x + 0.7 * torch.randn(64, 4), x)
        found.append(float(rsi.compute()))
        errors.append(float(rsi.standard_error()))
    spread = torch.tensor(found).std()
    assert float(torch.tensor(errors).mean()) == pytest.approx(float(spread), rel=0.3)


def test_too_few_probes_have_no_standard_error() -> None:
    rsi = RepresentationStabilityIndex()
    assert rsi.standard_error().isnan()
    rsi.update(torch.randn(5, 3), torch.randn(5, 3))
    assert rsi.standard_error().isnan()
