"""Rules over LoRA with every method that the installed peft has: a plain LoRA, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lit_fed import FedAvg
from lit_fed.aggregation import FedSALoRA, FFALoRA, FlexLoRA, RoLoRA, WeightedAverage
from lit_fed.aggregation.lora.distance import LoRADistance
from lit_fed.backbones import SequenceClassifier
from tests.backbones.test_peft_methods import BERT, LORAS, WORKS, made

RULES = (FFALoRA, FedSALoRA, RoLoRA, lambda: FlexLoRA({"a": 2}))
# QALoRA pools inputs on GPTQ weights alone
PLAIN = {"LORA", "qalora", "gaussian", "orthogonal", "random", "rslora", "tokens", "velora"}
REASONS = {
    "mica": r"trains both of its factors, but .*lora_B.* stays as it was built",
    "dora": r"lora_magnitude_vector",
    "bias of B": r"lora_B\.bias",
    "bdlora": r"lora_A\.weight is \[8, 8\], and not \[8, 16\]",
}


@pytest.mark.parametrize("name", [*WORKS, *LORAS])
def test_it_is_a_plain_lora_or_refused(name: str, tiny_model: Callable[..., str]) -> None:
    backbone = made(name, "classifier", tiny_model("bert", BERT))
    has_products = LoRADistance.of(backbone, WeightedAverage()) is not None
    assert has_products is (name in PLAIN | {"mica"})
    for rule in RULES:
        if name in PLAIN:
            rule().setup(backbone)
            continue
        reason = REASONS.get(name, "no factors A and B")
        with pytest.raises(ValueError, match=rf"`model\.aggregation` \w+ expects .*{reason}"):
            FedAvg(backbone, rule())
    assert backbone.adapters[1:] == (("rank_2_alpha_8",) if name in PLAIN else ())


def test_all_weights_have_no_factors(tiny_model: Callable[..., str]) -> None:
    backbone = SequenceClassifier(tiny_model("bert", BERT), peft=None)
    assert LoRADistance.of(backbone, WeightedAverage()) is None
    for rule in RULES:
        with pytest.raises(ValueError, match=r"expects .* but it has no factors A and B"):
            FedAvg(backbone, rule())
