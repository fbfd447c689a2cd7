from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig
from transformers import AutoModel, AutoTokenizer

from lit_fed.backbones import Backbone, CausalLM, SequenceClassifier
from lit_fed.methods.semantic_consensus import BackboneEncoder, ClusterMedoid
from tests.federation.toy import save_toy_model, toy_backbone
from tests.federation.toy_language_model import save_language_model
from tests.methods.semantic_consensus.votes import ballots

TEXTS = ["good film", "a very long old book was bad", "warm", "the day was very dull"]


def classifier(folder: Path) -> Backbone:
    return toy_backbone(save_toy_model(folder), dropout=0.5)


def language_model(folder: Path) -> Backbone:
    return CausalLM(
        str(save_language_model(folder)),
        peft=LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"),
    )


@pytest.mark.parametrize("make", [classifier, language_model])
def test_the_frozen_base_one_text_at_a_time(
    tmp_path: Path, make: Callable[[Path], Backbone]
) -> None:
    backbone = make(tmp_path)
    with torch.no_grad():
        for parameter in backbone.trainable().values():
            parameter.normal_()
    backbone.train()
    modes = [module.training for module in backbone.modules()]
    encoder = BackboneEncoder(batch_size=2)
    encoder.setup([backbone])
    found = encoder.encode(TEXTS)
    model, tokenizer = (
        AutoModel.from_pretrained(tmp_path).eval(),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    with torch.no_grad():
        expected = torch.stack(
            [
                model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
                for text in TEXTS
            ]
        )
    expected /= expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert backbone.active_adapters == ("default",)
    assert [module.training for module in backbone.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in backbone.trainable().values())


def test_a_text_longer_than_the_models_positions_is_cut(tmp_path: Path) -> None:
    encoder = BackboneEncoder()
    encoder.setup([classifier(tmp_path)])
    found = encoder.encode(["good " * 100, "good " * 200])
    torch.testing.assert_close(found[0], found[1])


def test_a_selector_hands_the_backbone_on(tmp_path: Path) -> None:
    selector = ClusterMedoid(BackboneEncoder())
    selector.setup([classifier(tmp_path)])
    found = selector(ballots([["good film"], ["good film"], ["cold"]]), seed=0)
    assert found.labels == ("good film",)
    assert 0 < selector.encoder.threshold < 1


def test_several_backbones_are_refused(tmp_path: Path) -> None:
    one = classifier(tmp_path / "one")
    other = toy_backbone(save_toy_model(tmp_path / "other", extra_words=("unheard",)))
    with pytest.raises(
        ValueError, match=r"all clients have one backbone.* the run has 2 \(.*one, .*other\)"
    ):
        BackboneEncoder().setup([one, other])
    with pytest.raises(ValueError, match="the run has 0"):
        BackboneEncoder().setup([])


def test_backbones_of_one_folder_are_one(tmp_path: Path) -> None:
    """Whatever is trained of each, and also where they hold parameters of their own."""
    folder = str(save_toy_model(tmp_path))
    kinds = [LoraConfig(r=4), LoraConfig(r=2, target_modules=["key"]), IA3Config()]
    backbones = [SequenceClassifier(folder, peft=kind) for kind in kinds]
    with torch.no_grad():
        for backbone in backbones:
            for parameter in backbone.trainable().values():
                parameter.normal_()
    one, several = BackboneEncoder(), BackboneEncoder()
    one.setup(backbones[1:2])
    several.setup(backbones)
    torch.testing.assert_close(several.encode(TEXTS), one.encode(TEXTS))
    with torch.no_grad():
        backbones[2].model.get_base_model().base_model.embeddings.word_embeddings.weight[5] += 1
    with pytest.raises(ValueError, match="the run has 3"):
        BackboneEncoder().setup(backbones)


def test_a_backbone_that_trains_as_a_whole_is_refused(tmp_path: Path) -> None:
    whole = SequenceClassifier(str(save_toy_model(tmp_path)), peft=None)
    with pytest.raises(
        ValueError, match=r"`model\.backbone\.peft` is expected to be a PEFT configuration"
    ):
        BackboneEncoder().setup([whole])


def test_without_a_backbone_it_encodes_nothing() -> None:
    with pytest.raises(RuntimeError, match="BackboneEncoder expects setup"):
        BackboneEncoder().encode(["text"])
