from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
)
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from lit_fed.backbones import (
    Backbone,
    BitFitConfig,
    BottleneckConfig,
    CausalLM,
    SequenceClassifier,
)

from .batches import batch_of, change, logits_of, loss_of

Models = Callable[..., str]
HEAD = "base_model.model.classifier.weight"


@pytest.fixture
def backbone(tiny_model: Models) -> Backbone:
    """A classifier without dropout, with two adapters that are not alike."""
    torch.manual_seed(0)
    backbone = SequenceClassifier(
        tiny_model("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    backbone.add_adapter("private")
    change(backbone, "default", seed=1)
    change(backbone, "private", seed=2)
    return backbone


def trains(backbone: Backbone, adapter: str) -> set[str]:
    return {name for name, p in backbone.trainable(adapter).items() if p.requires_grad}


def test_a_second_adapter_has_the_same_names_and_is_not_active(backbone: Backbone) -> None:
    assert backbone.adapters == ("default", "private")
    assert backbone.active_adapters == ("default",)
    assert backbone.trainable("private").keys() == backbone.trainable().keys()
    assert not trains(backbone, "private")
    assert trains(backbone, "default") == backbone.trainable().keys()


def test_the_base_is_shared(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"))
    before = sum(p.numel() for p in backbone.parameters())
    backbone.add_adapter("second")
    added = sum(p.numel() for p in backbone.parameters()) - before
    assert added == sum(p.numel() for p in backbone.trainable("second").values())


def test_activating_one_uses_its_head_and_weights(backbone: Backbone) -> None:
    batch = batch_of(backbone)
    first = logits_of(backbone, batch)
    backbone.activate("private")
    second = logits_of(backbone, batch)
    assert not torch.allclose(first, second)
    assert trains(backbone, "private") == backbone.trainable().keys()
    assert not trains(backbone, "default")
    backbone.load_trainable(backbone.trainable(), "private")
    torch.testing.assert_close(first, logits_of(backbone, batch))
    backbone.activate("default")
    torch.testing.assert_close(first, logits_of(backbone, batch))


def test_two_active_adapters_add_up_with_the_head_of_the_first(backbone: Backbone) -> None:
    backbone.activate("default", "private")
    first, second = backbone.trainable(), backbone.trainable("private")
    batch = batch_of(backbone)
    both = logits_of(backbone, batch)

    # By hand: the frozen weights changed by s·(B_r A_r + B_s A_s), and the first head.
    with torch.no_grad():
        for key in first:
            if not key.endswith("lora_A.weight"):
                continue
            other = key.replace("lora_A", "lora_B")
            path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            weight = backbone._base.get_submodule(path).base_layer.weight
            for part in (first, second):
                weight += 2.0 * part[other] @ part[key]
                part[other].zero_()
    torch.testing.assert_close(logits_of(backbone, batch), both)
    head = backbone._base.classifier
    assert head.active_adapters == ["default"]
    assert torch.equal(head.weight, first[HEAD])


def test_one_is_trained_at_a_time_bitwise(backbone: Backbone) -> None:
    backbone.activate("default", "private")
    for trained, frozen in (("private", "default"), ("default", "private")):
        backbone.train_adapter(trained)
        before = {n: p.detach().clone() for n, p in backbone.trainable(frozen).items()}
        parameters = [p for p in backbone.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.5)
        moved = {n: p.detach().clone() for n, p in backbone.trainable(trained).items()}
        loss_of(backbone, batch_of(backbone)).backward()
        optimizer.step()
        backbone.zero_grad()
        after = backbone.trainable(frozen)
        assert all(torch.equal(p, after[n]) for n, p in before.items())
        changed = {
            n for n, p in backbone.trainable(trained).items() if not torch.equal(p, moved[n])
        }
        heads = {n for n in changed if "lora" not in n}
        assert {n for n in moved if "lora" in n} <= changed
        # The head in use is that of the first.
        assert bool(heads) == (trained == "default")


def test_both_are_trained_after_activate(backbone: Backbone) -> None:
    backbone.activate("private", "default")
    assert trains(backbone, "private") == backbone.trainable().keys()
    assert trains(backbone, "default") == {n for n in backbone.trainable() if "lora" in n}


def test_a_teacher_of_the_same_values_predicts_the_same(backbone: Backbone) -> None:
    backbone.add_adapter("teacher")
    backbone.load_trainable(backbone.trainable(), "teacher")
    batch = batch_of(backbone)
    student = backbone(batch)
    with backbone.using("teacher"):
        teacher = backbone(batch)
    torch.testing.assert_close(student.logits, teacher.logits)
    assert not teacher.logits.requires_grad
    assert backbone.active_adapters == ("default",)


def test_using_leaves_the_students_graph_alone(backbone: Backbone) -> None:
    batch = batch_of(backbone)
    loss_of(backbone, batch).backward()
    expected = [p.grad for p in backbone.trainable().values()]
    backbone.zero_grad()
    loss = loss_of(backbone, batch)
    with backbone.using("private"):
        backbone(batch)
    loss.backward()
    for parameter, gradient in zip(backbone.trainable().values(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)
    assert all(p.grad is None for p in backbone.trainable("private").values())


def test_using_restores_who_trains_after_an_error(backbone: Backbone) -> None:
    backbone.activate("default", "private")
    backbone.train_adapter("private")
    before = trains(backbone, "private")
    with backbone.using("default"):
        assert backbone.active_adapters == ("default",)
        assert not trains(backbone, "private")
    with pytest.raises(KeyError), backbone.using("default"):
        raise KeyError
    assert backbone.active_adapters == ("default", "private")
    assert trains(backbone, "private") == before
    assert not trains(backbone, "default")


def test_an_adapter_without_a_head(backbone: Backbone) -> None:
    backbone.add_adapter("light", head=False)
    assert backbone.trainable("light").keys() == {n for n in backbone.trainable() if "lora" in n}
    change(backbone, "light")
    backbone.activate("light", "default")
    assert backbone._base.classifier.active_adapters == ["default"]
    backbone.train_adapter("light")
    loss_of(backbone, batch_of(backbone)).backward()
    assert all(p.grad is not None for p in backbone.trainable("light").values())


def test_any_adapter_can_be_saved(backbone: Backbone, tmp_path: Path) -> None:
    backbone.save_pretrained(tmp_path, "private")
    base = AutoModelForSequenceClassification.from_pretrained(backbone._base.name_or_path)
    plain = PeftModel.from_pretrained(base, tmp_path).eval()
    backbone.activate("private")
    batch = batch_of(backbone)
    with torch.no_grad():
        logits = plain(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(logits, logits_of(backbone, batch))
    assert not (tmp_path / "private").exists()


@pytest.mark.parametrize("peft", [IA3Config(), PromptTuningConfig(num_virtual_tokens=2)])
def test_other_methods_switch_too(tiny_model: Models, peft: Any) -> None:
    backbone = SequenceClassifier(tiny_model("bert"), peft=peft)
    backbone.add_adapter("second")
    batch = batch_of(backbone)
    change(backbone, "second")
    first = logits_of(backbone, batch)
    backbone.activate("second")
    assert not torch.allclose(first, logits_of(backbone, batch))
    assert trains(backbone, "second") == backbone.trainable().keys()
    assert not trains(backbone, "default")
    with backbone.using("default"):
        torch.testing.assert_close(first, logits_of(backbone, batch))
    assert trains(backbone, "second") == backbone.trainable().keys()


def test_a_lora_of_another_rank(backbone: Backbone, tmp_path: Path) -> None:
    """It trains, is used and is exported like the others, and plain peft predicts the same with it."""
    backbone.add_adapter("narrow", LoraConfig(r=2, lora_alpha=6))
    first, narrow = backbone.trainable(), backbone.trainable("narrow")
    assert narrow.keys() == first.keys()
    ranks = {p.shape[0] for n, p in narrow.items() if "lora_A" in n}
    assert ranks == {2}
    change(backbone, "narrow", seed=3)
    batch = batch_of(backbone)
    before = logits_of(backbone, batch)
    with backbone.using("narrow"):
        used = logits_of(backbone, batch)
    torch.testing.assert_close(logits_of(backbone, batch), before)
    backbone.activate("narrow")
    torch.testing.assert_close(logits_of(backbone, batch), used)
    assert trains(backbone, "narrow") == narrow.keys()
    loss_of(backbone, batch).backward()
    assert all(p.grad is not None for p in narrow.values())

    backbone.save_pretrained(tmp_path, "narrow")
    base = AutoModelForSequenceClassification.from_pretrained(backbone._base.name_or_path)
    plain = PeftModel.from_pretrained(base, tmp_path).eval()
    config = plain.peft_config["default"]
    assert (config.r, config.lora_alpha, config.task_type) == (2, 6, "SEQ_CLS")
    with torch.no_grad():
        logits = plain(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(logits, used)
    with pytest.raises(ValueError, match=r"`state` is expected to have .*lora_A.* of shape \[8"):
        backbone.load_trainable(narrow)


def test_another_configuration_may_target_other_modules(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"), peft=LoraConfig(r=2, target_modules=["q_proj"]))
    change(backbone)
    batch = batch_of(backbone)
    before = logits_of(backbone, batch)
    backbone.add_adapter("maps", LoraConfig(r=4, target_modules=["up_proj", "q_proj"]), head=False)
    torch.testing.assert_close(logits_of(backbone, batch), before)
    assert {n.split(".")[-3] for n in backbone.trainable("maps")} == {"up_proj", "q_proj"}
    backbone.activate("default", "maps")
    torch.testing.assert_close(logits_of(backbone, batch), before)  # it changes nothing yet


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            IA3Config(),
            "same kind as that of the model's other adapters, LoraConfig, .* got IA3Config",
        ),
        (LoraConfig(target_modules=["wings"]), r"`config.target_modules` is expected .* got wings"),
        (LoraConfig(modules_to_save=["wings"]), r"`config.modules_to_save` is .* has no wings"),
    ],
)
def test_configurations_that_do_not_fit(backbone: Backbone, config: Any, message: str) -> None:
    batch = batch_of(backbone)
    before = logits_of(backbone, batch)
    held = {name: p.detach().clone() for name, p in backbone.named_parameters()}
    with pytest.raises(ValueError, match=message):
        backbone.add_adapter("other", config)
    assert backbone.adapters == ("default", "private")
    assert held.keys() == dict(backbone.named_parameters()).keys()
    assert all(torch.equal(p, held[name]) for name, p in backbone.named_parameters())
    torch.testing.assert_close(logits_of(backbone, batch), before)


def test_other_prompts_do_not_fit(tiny_model: Models) -> None:
    prompts = CausalLM(tiny_model("gpt2"), peft=PromptTuningConfig(num_virtual_tokens=2))
    with pytest.raises(ValueError, match=r"`config` of adapter 'more' is expected to be null"):
        prompts.add_adapter("more", PromptTuningConfig(num_virtual_tokens=3))
    with pytest.raises(TypeError, match="to be a PEFT configuration, but got 'lora'"):
        prompts.add_adapter("more", "lora")  # type: ignore[arg-type]


CONFIGS: dict[str, Any] = {
    "lora": LoraConfig(r=2),
    "dora": LoraConfig(r=2, use_dora=True),
    "ia3": IA3Config(),
    "norms": LNTuningConfig(),
    "bitfit": BitFitConfig(),
    "bottleneck": BottleneckConfig(width=4),
    "prompt": PromptTuningConfig(num_virtual_tokens=3),
    "prefix": PrefixTuningConfig(num_virtual_tokens=3),
    "p-tuning": PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=4),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_bare_base_is_the_model_without_adapters(tiny_model: Models, name: str) -> None:
    folder = tiny_model("gpt2")
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    backbone = CausalLM(folder, peft=CONFIGS[name])
    change(backbone)
    batch = batch_of(backbone)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    adapted, states = logits_of(backbone, batch), plain(**inputs, output_hidden_states=True)
    trained, flags = trains(backbone, "default"), (backbone.is_bare, backbone.virtual_tokens)
    with backbone.using():
        assert backbone.active_adapters == ()
        assert (backbone.is_bare, backbone.virtual_tokens) == (True, 0)
        torch.testing.assert_close(logits_of(backbone, batch), states.logits[:, :-1])
        layers = backbone.eval().layer_states(batch)
        torch.testing.assert_close(layers, list(states.hidden_states[1:]))
        assert backbone(batch).logits.requires_grad is False
        bare = backbone.generate(["a b c"], max_new_tokens=6)
        with backbone.using("default"):
            torch.testing.assert_close(logits_of(backbone, batch), adapted)
        torch.testing.assert_close(logits_of(backbone, batch), states.logits[:, :-1])
    assert bare == CausalLM(folder, peft=None).generate(["a b c"], max_new_tokens=6)
    torch.testing.assert_close(logits_of(backbone, batch), adapted)
    assert trains(backbone, "default") == trained
    assert (backbone.is_bare, backbone.virtual_tokens) == flags


@pytest.mark.parametrize(
    ("model", "name"), [("bert", "lora"), ("bert", "ia3"), ("llama", "lora"), ("llama", "prompt")]
)
def test_the_bare_base_of_a_classifier_has_the_head_as_it_was_loaded(
    tiny_model: Models, model: str, name: str
) -> None:
    auto = AutoModelForSequenceClassification
    folder = tiny_model(model, f"{model.capitalize()}ForSequenceClassification")
    plain = auto.from_pretrained(folder).eval()
    backbone = SequenceClassifier(folder, peft=CONFIGS[name])
    change(backbone)
    batch = batch_of(backbone)
    adapted = logits_of(backbone, batch)
    expected = plain(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    with backbone.using():
        torch.testing.assert_close(logits_of(backbone, batch), expected)
        assert not any(p.requires_grad for p in backbone.parameters())
    torch.testing.assert_close(logits_of(backbone, batch), adapted)
    with pytest.raises(KeyError), backbone.using():
        raise KeyError
    torch.testing.assert_close(logits_of(backbone, batch), adapted)
    assert trains(backbone, "default") == backbone.trainable().keys()


def test_the_bare_base_leaves_the_students_graph_alone(backbone: Backbone) -> None:
    batch = batch_of(backbone)
    loss_of(backbone, batch).backward()
    expected = [p.grad for p in backbone.trainable().values()]
    backbone.zero_grad()
    loss = loss_of(backbone, batch)
    with backbone.using():
        backbone.add_adapter("later")
        backbone(batch)
    loss.backward()
    for parameter, gradient in zip(backbone.trainable().values(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)


def test_without_adapters_there_is_no_bare_base(tiny_model: Models) -> None:
    full = CausalLM(tiny_model("gpt2"), peft=None)
    message = r"`model\.backbone\.peft` is expected .* base without its adapters, but got null"
    with pytest.raises(ValueError, match=message), full.using():
        pass
    assert full.active_adapters == ("default",)


def test_what_is_frozen_does_not_train_whatever_adapters_take_part(backbone: Backbone) -> None:
    names = backbone.trainable().keys()
    frozen = {name for name in names if "lora_A" in name}
    backbone.freeze(frozen)
    assert trains(backbone, "default") == names - frozen
    with backbone.using("private"):
        assert not trains(backbone, "default")
    assert trains(backbone, "default") == names - frozen
    backbone.activate("private", "default")
    assert trains(backbone, "private") == names
    assert not trains(backbone, "default") & frozen
    backbone.activate("default")
    loss_of(backbone, batch_of(backbone)).backward()
    assert all((p.grad is None) == (n in frozen) for n, p in backbone.trainable().items())
    backbone.freeze(())
    assert trains(backbone, "default") == names
    with pytest.raises(ValueError, match="parameters of adapter 'default', but odd are not"):
        backbone.freeze(["odd"])
    with pytest.raises(KeyError, match="no adapter 'odd'"):
        backbone.freeze((), "odd")


def test_a_part_of_a_whole_model_can_be_frozen(tiny_model: Models) -> None:
    backbone = SequenceClassifier(tiny_model("bert"), peft=None)
    names = backbone.trainable().keys()
    body = {name for name in names if not name.startswith("classifier")}
    backbone.freeze(body)
    assert trains(backbone, "default") == names - body
    with backbone.using("default"):
        assert not trains(backbone, "default")
    assert trains(backbone, "default") == names - body
    backbone.freeze(())
    assert trains(backbone, "default") == names


def test_errors(backbone: Backbone, tiny_model: Models) -> None:
    with pytest.raises(KeyError, match="no adapter 'other': there are default, private"):
        backbone.activate("default", "other")
    assert backbone.active_adapters == ("default",)
    with pytest.raises(KeyError, match="no adapter 'other'"), backbone.using("other"):
        pass
    with pytest.raises(ValueError, match="at least one adapter"):
        backbone.activate()
    with pytest.raises(ValueError, match="one of the active ones, default, but got private"):
        backbone.train_adapter("private")
    for name in ("private", "", "a.b", "classifier", "query"):
        with pytest.raises(ValueError, match=f"`name` of an adapter .* but got '{name}'"):
            backbone.add_adapter(name)
    full = CausalLM(tiny_model("gpt2"), peft=None)
    with pytest.raises(ValueError, match=r"`model\.backbone\.peft` .* second one, but got null"):
        full.add_adapter("teacher")
    prompts = CausalLM(tiny_model("gpt2"), peft=PromptTuningConfig(num_virtual_tokens=2))
    prompts.add_adapter("second")
    with pytest.raises(ValueError, match="prompts do not add up, but got default, second"):
        prompts.activate("default", "second")
