"""Changes that are folded into frozen weights: right, exactly undone, and nobody else's business."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from lit_fed.backbones import Backbone, SequenceClassifier
from lit_fed.backbones.folding import WeightChange

LAYER = "base_model.model.bert.encoder.layer.0.attention.self.query"


def backbone_of(model: Path, **settings: Any) -> SequenceClassifier:
    torch.manual_seed(0)
    peft = LoraConfig(r=2, target_modules=["query", "value"])
    return SequenceClassifier(str(model), peft=peft, **settings)


def weight_of(backbone: Backbone, layer: str = LAYER) -> Tensor:
    weight: Tensor = backbone.model.get_submodule(layer).get_base_layer().weight
    return weight.detach()


def factors(seed: int = 0, size: float = 0.1) -> WeightChange:
    draw = torch.Generator().manual_seed(seed)
    p, q = torch.randn(32, 3, generator=draw), torch.randn(3, 32, generator=draw)
    return WeightChange(size * p, q)


def logits(backbone: Backbone) -> Tensor:
    ids = torch.tensor([[2, 5, 9, 14, 3], [2, 6, 7, 11, 3]])
    with torch.no_grad():
        result: Tensor = backbone.eval()({"input_ids": ids}).logits
    return result


def test_a_weight_is_the_loaded_one_plus_the_change_and_goes_back_bit_for_bit(
    toy_model: Path,
) -> None:
    backbone = backbone_of(toy_model)
    loaded, before = weight_of(backbone).clone(), logits(backbone)
    for seed in range(5):
        change = factors(seed)
        backbone.fold({LAYER: change})
        assert change.q is not None
        expected = loaded.double() + change.p.double() @ change.q.double()
        assert torch.equal(weight_of(backbone), expected.float())  # of no earlier one
    assert not torch.equal(logits(backbone), before)
    dense = WeightChange(change.dense())
    backbone.fold({LAYER: dense})
    assert backbone.folded[LAYER] is dense
    backbone.fold({})
    assert torch.equal(weight_of(backbone), loaded)
    torch.testing.assert_close(logits(backbone), before)
    assert not backbone.folded


def test_the_same_again_changes_nothing(toy_model: Path) -> None:
    backbone = backbone_of(toy_model)
    backbone.fold({LAYER: factors()})
    version = backbone._folding.version
    backbone.fold({LAYER: factors()})  # equal, and not the same object
    assert backbone._folding.version == version
    backbone.fold({LAYER: factors(1)})
    assert backbone._folding.version == version + 1


def test_what_the_model_is_called_and_how_large_it_is_stay(toy_model: Path) -> None:
    one, other = backbone_of(toy_model), backbone_of(toy_model)
    other.fold({LAYER: factors()})
    folded = weight_of(other).clone()
    assert other.identity == one.identity
    assert other.num_parameters == one.num_parameters
    assert torch.equal(weight_of(other), folded)
    assert [n for n, _ in one.named_parameters()] == [n for n, _ in other.named_parameters()]


def test_a_copy_has_weights_of_its_own(toy_model: Path) -> None:
    one = backbone_of(toy_model)
    one.fold({LAYER: factors()})
    folded = weight_of(one).clone()
    other = copy.deepcopy(one)
    other.fold({})
    assert torch.equal(weight_of(one), folded)
    assert torch.equal(weight_of(other), weight_of(backbone_of(toy_model)))


def test_other_adapters_and_the_bare_base_stand_on_the_same_weights(toy_model: Path) -> None:
    backbone = backbone_of(toy_model)
    backbone.add_adapter("teacher")
    with backbone.using():
        bare = logits(backbone)
    for changes in ({LAYER: factors()}, {}):
        backbone.fold(changes)
        backbone.load_trainable(backbone.trainable(), "teacher")
        own = logits(backbone)
        with backbone.using("teacher"):
            torch.testing.assert_close(logits(backbone), own)
        with backbone.using():
            assert torch.allclose(logits(backbone), bare, atol=1e-6) == (not changes)


def test_weights_of_sixteen_bits_say_what_they_lose(toy_model: Path) -> None:
    backbone = backbone_of(toy_model, dtype="bfloat16")
    loaded = weight_of(backbone).clone()
    assert loaded.dtype == torch.bfloat16
    change = factors(size=1e-4)
    with pytest.warns(UserWarning, match=r"\d+% of what is folded .* is rounded away"):
        backbone.fold({LAYER: change})
    expected = (loaded.double() + change.dense().double()).bfloat16()
    assert torch.equal(weight_of(backbone), expected)
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        backbone.fold({LAYER: factors(1, size=1e-4)})
        backbone.fold({})
    assert torch.equal(weight_of(backbone), loaded)
    wide = backbone_of(toy_model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wide.fold({LAYER: change})


def test_a_model_of_another_type_is_folded_as_if_it_had_been_that_before(toy_model: Path) -> None:
    one, other = backbone_of(toy_model), backbone_of(toy_model)
    one.fold({LAYER: factors()})
    one.to(torch.bfloat16)
    other.to(torch.bfloat16)
    for change in (factors(1), None):
        for backbone in (one, other):
            backbone.fold({} if change is None else {LAYER: change})
        assert torch.equal(weight_of(one), weight_of(other))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query": factors()}, "of layers with adapters, but 'query' is none"),
        (
            {LAYER.replace("query", "key"): factors()},
            r"of layers with adapters, but '.*key' is none",
        ),
        (
            {LAYER: factors(), LAYER.replace("query", "value"): WeightChange(torch.ones(32, 8))},
            r"value is expected to be of shape \[32, 32\], but is \[32, 8\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    changes: dict[str, WeightChange], said: str, toy_model: Path
) -> None:
    backbone = backbone_of(toy_model)
    loaded = weight_of(backbone).clone()
    with pytest.raises(ValueError, match=said):
        backbone.fold(changes)
    assert torch.equal(weight_of(backbone), loaded)
    assert not backbone.folded
