from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lit_fed.losses import cross_entropy
from lit_fed.tools.memory import (
    ARRANGEMENTS,
    MemoryEstimate,
    estimate_memory,
    main,
    memory_table,
)

ROWS, LENGTH, RANK = 3, 24, 4
SIZE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
}


def config(**settings: Any) -> LlamaConfig:
    return LlamaConfig(**SIZE | settings)


def estimated(**settings: Any) -> MemoryEstimate:
    given = {"lora_r": RANK, "dtype": "float32", "batch_size": ROWS, "length": LENGTH}
    return estimate_memory(config(), **given | settings)


class Measured:
    """A training step that really happens, with every byte that it holds counted."""

    def __init__(self, lora: bool = True) -> None:
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(config())
        if lora:
            model = get_peft_model(
                model, LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
            )
        trained = [p for p in model.parameters() if p.requires_grad]
        self.base = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
        self.trained = sum(p.nbytes for p in trained)
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage().data_ptr()
            if storage not in weights:
                kept.setdefault(storage, tensor)
            return tensor

        ids = torch.randint(97, (ROWS, LENGTH))
        attends = torch.ones_like(ids)
        attends[0, LENGTH // 2 :] = 0  # with padding, which a mask is made for
        optimizer = torch.optim.AdamW(trained)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            output = model.train()(input_ids=ids, attention_mask=attends, use_cache=False)
            loss = cross_entropy(output.logits[:, :-1], ids[:, 1:], attends[:, 1:].bool())
        self.activations = sum(t.untyped_storage().nbytes() for t in kept.values())
        loss.backward()
        optimizer.step()
        self.gradients = sum(p.grad.nbytes for p in trained if p.grad is not None)
        moments = [t for state in optimizer.state.values() for t in state.values() if t.dim()]
        self.optimizer = sum(t.nbytes for t in moments)


@pytest.mark.parametrize("lora", [True, False])
def test_a_step_holds_what_was_estimated(lora: bool) -> None:
    measured = Measured(lora)
    estimate = estimated(lora_r=RANK if lora else None)
    assert estimate.base == measured.base
    assert estimate.trainable == 2 * measured.trained
    assert estimate.gradients == measured.gradients
    assert estimate.optimizer == measured.optimizer
    assert estimate.activations == pytest.approx(measured.activations, rel=0.05)
    assert estimate.gathered == 0


def test_checkpointing_keeps_one_layer_and_the_inputs_of_all() -> None:
    every, kept = estimated(), estimated(gradient_checkpointing=True)
    hidden = ROWS * LENGTH * SIZE["hidden_size"] * 4
    deeper = estimate_memory(
        config(num_hidden_layers=4),
        lora_r=RANK,
        dtype="float32",
        batch_size=ROWS,
        length=LENGTH,
        gradient_checkpointing=True,
    )
    assert kept.activations < every.activations
    assert deeper.activations - kept.activations == hidden
    assert kept.base == every.base


def test_clients_at_once_share_the_base_alone() -> None:
    one, four = estimated(), estimated(clients_at_once=4)
    assert four.base == one.base
    for part in ("gradients", "optimizer", "activations"):
        assert getattr(four, part) == 4 * getattr(one, part)
    assert four.trainable == one.trainable // 2 * 5  # the copy that all start from is one


def test_shards_divide_everything_but_what_is_gathered() -> None:
    one, three = estimated(), estimated(shards=3)
    for part in ("base", "gradients", "optimizer"):
        assert getattr(three, part) == -(-getattr(one, part) // 3)
    # of three rows one for each
    assert three.activations == pytest.approx(one.activations / 3, rel=0.02)
    embeddings = 2 * 97 * 32 * 4
    assert three.gathered > embeddings


def test_four_bits_and_their_scales() -> None:
    full, packed = estimated(), estimated(quantization="4bit")
    layers = 3 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 80)
    bits = 4 + 8 / 64 + 32 / (64 * 256)
    assert full.base - packed.base == pytest.approx(layers * (32 - bits) / 8, abs=40)
    assert packed.gradients == full.gradients


def test_a_seven_billion_model_is_never_loaded(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path)
    estimate = estimate_memory(tmp_path, gradient_checkpointing=True)
    assert estimate.base == 2 * 6_738_415_616  # the published count of Llama-2-7B
    assert estimate.gradients == 4 * 39_976_960  # LoRA r 16 on its seven linear layers, in float32
    assert estimate.total < 80e9


def test_the_table_names_every_arrangement(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"one": {}, "split in two": {"shards": 2}}
    estimates = memory_table(config(), rows, batch_size=2, length=8)
    printed = capsys.readouterr().out
    assert list(estimates) == list(rows)
    assert all(name in printed for name in [*rows, "optimizer", "gathered", "total"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shards": 0}, "`shards` is expected to be at least 1, but got 0"),
        ({"lora_r": 0}, "`lora_r` is expected to be at least 1, but got 0"),
        ({"lora_r": None, "clients_at_once": 2}, "`lora_r` is expected to be the rank"),
        ({"lora_r": None, "quantization": "4bit"}, "`lora_r` is expected to be the rank"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        estimated(**settings)


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config().save_pretrained(tmp_path)
    given = {"batch_size": 4096, "length": 64, "lora_r": RANK, "dtype": "float32"}
    options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    main(["--model", str(tmp_path), *options])
    printed = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    rows = {row[0]: row[1:] for row in cells if row}
    assert list(rows) == list(ARRANGEMENTS)
    for name, arrangement in ARRANGEMENTS.items():
        estimate = estimate_memory(tmp_path, **{**given, **arrangement})
        assert rows[name][-1] == f"{estimate.total / 1e9:.2f} GB"


def test_the_command_helps_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "Example: python -m lit_fed.tools.memory --batch_size 8 --length 512" in printed
    assert "--model" in printed
    assert "--shards" not in printed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch_size", "0"], "`batch_size` is expected to be at least 1, but got 0"),
        (["--model", "missing"], "`model` is expected to be a folder with a config.json"),
    ],
)
def test_the_command_refuses_in_one_line(options: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert said in str(ended.value.code)
    assert "\n" not in str(ended.value.code)
