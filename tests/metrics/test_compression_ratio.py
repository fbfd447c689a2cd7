import zlib

import pytest

from lit_fed.metrics import CompressionRatio


def test_equals_zlib() -> None:
    texts = ["said again and again and again and again", "北京" * 30, "short"]
    metric = CompressionRatio()
    metric.update(texts)
    whole = sum(len(text.encode()) for text in texts)
    packed = sum(len(zlib.compress(text.encode(), 9)) for text in texts)
    assert metric.compute().item() == pytest.approx(whole / packed)


def test_longer_repetition_is_compressed_further_and_empty_texts_do_not_count() -> None:
    values = []
    for times in (1, 5, 25):
        metric = CompressionRatio()
        metric.update(["a story of a fox. " * times, ""])
        values.append(metric.compute().item())
    assert values[0] < 1 < values[1] < values[2]
    empty = CompressionRatio()
    empty.update(["", ""])
    assert empty.compute().isnan()
