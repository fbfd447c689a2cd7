from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

from lit_fed.backbones import CausalLM, SequenceClassifier
from lit_fed.backbones import quantization as module

from .batches import batch_of, loss_of

Models = Callable[..., str]


def test_without_bitsandbytes(tiny_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs bitsandbytes") as raised:
        CausalLM(tiny_model("llama"), quantization="4bit")
    assert str(raised.value) == (
        "`model.backbone.quantization` is 4bit, which needs bitsandbytes: "
        "pip install lit_fed[bitsandbytes]"
    )


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
class TestFourBits:
    def test_trains_with_a_head_of_full_precision(self, tiny_model: Models) -> None:
        folder = tiny_model("llama", hidden_size=64, intermediate_size=64)
        backbone = SequenceClassifier(folder, quantization="4bit")
        kinds = {n: type(m).__name__ for n, m in backbone._base.named_modules()}
        assert kinds["model.layers.0.mlp.up_proj"] == "Linear4bit"
        assert kinds["score.original_module"] == "Linear"
        loss_of(backbone, batch_of(backbone)).backward()
        assert all(p.grad is not None for p in backbone.trainable().values())

    def test_needs_an_adapter(self, tiny_model: Models) -> None:
        with pytest.raises(ValueError, match=r"`model\.backbone\.peft` .* but got null"):
            CausalLM(tiny_model("llama"), peft=None, quantization="4bit")
