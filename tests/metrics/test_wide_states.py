"""Metrics that keep lengths beside values, where the default dtype is half precision."""

from collections.abc import Iterator

import pytest
import torch

from lit_fed.metrics import ClientJensenShannon, DistinctN, RepresentationStabilityIndex
from lit_fed.metrics.collected_texts import CollectedTexts


@pytest.fixture(params=[torch.bfloat16, torch.float16], autouse=True)
def half_precision(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("make", [DistinctN, lambda: ClientJensenShannon(3000)])
def test_texts_keep_their_lengths_and_numbers(make: type[CollectedTexts]) -> None:
    metric = make().to("cpu")
    texts = ["a" * 257, "b" * 5001, "naïve"]
    metric.collect(texts, 2999)
    metric.collect(texts[:1], 257)
    assert metric.collected() == [*((2999, text) for text in texts), (257, texts[0])]
    assert metric.dtype == torch.float32  # of what a process without texts gathers


def test_probes_keep_their_shapes() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 2051, 3, generator=generator, dtype=torch.float32)
    metric, whole = RepresentationStabilityIndex().to("cpu"), RepresentationStabilityIndex()
    metric.update(x[:257] + noise[:257], x[:257], group=257)
    metric.update(x[257:] + noise[257:], x[257:], group=257)
    whole.update(x + noise, x)
    torch.testing.assert_close(metric.compute(), whole.compute())
    assert {len(batch) for batch in metric.features} == {257 * 3, 1794 * 3}
    assert metric.dtype == metric.features[0].dtype == torch.float32
