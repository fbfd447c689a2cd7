from typing import Any

import pytest
import torch
from torch import Tensor

from lit_fed.methods.teachers import RowCache


def test_cached_language_model_rows_fit_any_padding() -> None:
    cache = RowCache(10**6)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    logits = torch.randn(2, 3, 5)
    first = {"index": torch.tensor([7, 3]), "attention_mask": mask}
    cache.get(first, lambda _: {"logits": logits}, ("logits",))
    alone = {"index": torch.tensor([7]), "attention_mask": torch.tensor([[0, 0, 1, 1, 1]])}
    found = cache.get(alone, pytest.fail, ("logits",))["logits"]
    torch.testing.assert_close(found[0, 2:], logits[0, :2])
    torch.testing.assert_close(found[0, :2], torch.zeros(2, 5))


def test_the_cache_keeps_to_its_budget() -> None:
    cache, calls = RowCache(12), []

    def compute(batch: Any) -> dict[str, Tensor]:
        calls.append(batch["index"].tolist())
        return {"x": batch["index"].float()}

    for ids in ([0, 1, 2, 3], [3, 1, 4], [0, 1, 2]):
        found = cache.get({"index": torch.tensor(ids)}, compute)["x"]
        assert found.tolist() == ids
    assert calls == [[0, 1, 2, 3], [3, 4]]
    assert cache.nbytes == 12
    cache.clear()
    assert cache.nbytes == 0
