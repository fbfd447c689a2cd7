"""What a run is known by: resuming with anything else is refused, and what may change is let through."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModel

from lit_fed import FedAvg
from lit_fed.aggregation import FedAvgM, WeightedAverage
from lit_fed.attachment import Attachment
from lit_fed.backbones import SequenceClassifier
from lit_fed.data import ClassificationEncoding, DirichletPartitioner, IIDPartitioner
from lit_fed.federation import FixedOrderSampler, SizeSampler, VectorizedClients
from lit_fed.federation.run.identity import RunDiffers, differences, identity_of
from tests.federation.toy import (
    fast_adamw,
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)


class Scaled(Attachment):
    """Keeps its argument under another name."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.strength = factor


def other_word(split: str, seed: int, count: int) -> dict[str, Dataset]:
    """The same rows but for one word of one of them."""
    texts = toy_rows(count, seed)
    words = [text + " old" if row == 3 else text for row, text in enumerate(texts["text"])]
    return {split: Dataset.from_dict({"text": words, "label": texts["label"]})}


class Renamed(FedAvg):
    """Another method."""


def fed_avg(model: Path, **settings: Any) -> FedAvg:
    given: dict[str, Any] = {"optimizer": fast_adamw, "warmup_steps": 0}
    return FedAvg(settings.pop("backbone", None) or toy_backbone(model, 0.1), **given | settings)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-2)


Module = Callable[[Path], FedAvg]

DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, Any], Module | None, str]] = {
    # what: trainer, data, module, and what is said of it
    "train": ({}, other_word("train", 0, 96), None, "`data.train` is expected to be 96 rows of"),
    "validation": ({}, other_word("validation", 1, 40), None, "`data.validation`"),
    "test": ({}, other_word("test", 2, 40), None, "`data.test.test`"),
    "public": ({}, other_word("public", 3, 24), None, "`data.public`"),
    "further test": (
        {},
        {"test": {"test": toy_rows(40, 2), "more": toy_rows(8, 5)}},
        None,
        "`data.test.more` is expected to be not set as in the checkpoint, but is 8 rows",
    ),
    "batch size": (
        {},
        {"batch_size": 4},
        None,
        "`data.batch_size` is expected to be 8 as in the checkpoint, but is 4",
    ),
    "partitioner": ({}, {"partitioner": IIDPartitioner()}, None, "DirichletPartitioner as in"),
    "alpha": ({}, {"partitioner": DirichletPartitioner(0.9)}, None, "partitioner.alpha"),
    "clients": ({}, {"num_clients": 3}, None, "96 rows of 3 clients"),
    "encoding": (
        {},
        {"encoding": ClassificationEncoding(text="text", text_pair="text")},
        None,
        "`data.encoding.text_pair` is expected to be None as in the checkpoint, but is text",
    ),
    "learning rate": (
        {},
        {},
        lambda model: fed_avg(model, optimizer=lambda ps: torch.optim.AdamW(ps, lr=3e-2)),
        "`model.optimizer.lr` is expected to be 0.01 as in the checkpoint, but is 0.03",
    ),
    "weight decay by a partial": (
        {},
        {},
        lambda model: fed_avg(model, optimizer=partial(torch.optim.AdamW, lr=1e-2, weight_decay=0)),
        "`model.optimizer.weight_decay` is expected to be 0.01 as in the checkpoint, but is 0",
    ),
    "optimizer": ({}, {}, lambda model: fed_avg(model, optimizer=sgd), "AdamW as in"),
    "warm-up": ({}, {}, lambda model: fed_avg(model, warmup_steps=5), "`model.warmup_steps`"),
    "aggregation": ({}, {}, lambda model: fed_avg(model, aggregation=FedAvgM()), "but is FedAvgM"),
    "weights": (
        {},
        {},
        lambda model: fed_avg(model, aggregation=WeightedAverage("uniform")),
        "aggregation.weighting` is expected to be size",
    ),
    "rank": (
        {},
        {},
        lambda model: fed_avg(
            model, backbone=SequenceClassifier(str(model), peft=LoraConfig(r=2, lora_dropout=0.1))
        ),
        "`model.backbone.peft.r` is expected to be 4 as in the checkpoint, but is 2",
    ),
    "no adapter": (
        {},
        {},
        lambda model: fed_avg(model, backbone=SequenceClassifier(str(model), peft=None)),
        "`model.backbone.peft` is expected to be LoraConfig as in the checkpoint, but is None",
    ),
    "labels": (
        {},
        {},
        lambda model: fed_avg(model, backbone=three_labels(model)),
        "`model.backbone.num_labels` is expected to be 2 as in the checkpoint, but is 3",
    ),
    "base weights": (
        {},
        {},
        lambda model: fed_avg(model, backbone=other_weights(model)),
        "`model.backbone.frozen weights`",
    ),
    "clipping": ({"gradient_clip_val": 0.5}, {}, None, "`trainer.gradient_clip_val`"),
    "seed": (
        {"seed": 5},
        {},
        None,
        "`trainer.seed` is expected to be 0 as in the checkpoint, but is 5",
    ),
    "precision": ({"precision": "bf16-mixed"}, {}, None, "`trainer.precision`"),
    "sampler": ({"sampler": SizeSampler()}, {}, None, "`trainer.sampler`"),
    "order": ({"sampler": FixedOrderSampler([1, 2])}, {}, None, "`trainer.sampler`"),
    "epochs": ({"local_epochs": 2}, {}, None, "`trainer.local_epochs`"),
    "clients a round": ({"clients_per_round": 2}, {}, None, "`trainer.clients_per_round`"),
    "attachment": ({"attachments": [Scaled(2.0)]}, {}, None, "`trainer.attachments`"),
}


def three_labels(model: Path) -> SequenceClassifier:
    """The same model without its head, which is made for three classes."""
    folder = model.parent / "headless"
    save_toy_model(folder)
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1)
    return SequenceClassifier(str(folder), num_labels=3, peft=config)


def other_weights(model: Path) -> SequenceClassifier:
    """The same model, of which the frozen weights have changed a little."""
    backbone = toy_backbone(model, 0.1)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            if not parameter.requires_grad:
                parameter.mul_(1.001)
    return backbone


@pytest.fixture(scope="module")
def run(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one round."""
    root = tmp_path_factory.mktemp("identity") / "run"
    toy_trainer(root, max_rounds=1).fit(toy_module(toy_model), toy_data())
    return root


@pytest.mark.parametrize("what", DIFFERENT)
def test_another_run_is_refused_by_name_and_left_as_it_was(
    what: str, run: Path, toy_model: Path
) -> None:
    trainer, data, module, said = DIFFERENT[what]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(RunDiffers) as error:
        toy_trainer(run, **trainer).fit(
            (module or toy_module)(toy_model), toy_data(**data), ckpt_path="last"
        )
    first, *lines, last = str(error.value).splitlines()
    assert first.startswith(f"checkpoint {run}")
    assert any(said in line for line in lines), lines
    assert "`trainer.resume_with_changes`" in last
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_may_change_is_let_through(run: Path, toy_model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    changed = toy_trainer(
        copy,
        max_rounds=2,
        execution=VectorizedClients(clients_at_once=2),
        name="other",
        test_at_end=False,
        limit_val_batches=2,
        validate_clients=True,
        client_state_mb=1.0,
        min_clients=0,
    )
    data = toy_data(eval_batch_size=16, num_workers=0, pad_to_multiple_of=8)
    changed.fit(toy_module(toy_model), data, ckpt_path=str(copy))
    assert changed.log_dir == copy
    assert changed.current_round == 2
    assert changed.federation.changes == []


def test_changes_that_are_meant_are_said_and_recorded(toy_model: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    toy_trainer(root, max_rounds=1).fit(toy_module(toy_model), toy_data())
    meant = toy_trainer(root, max_rounds=2, resume_with_changes=True)
    with pytest.warns(UserWarning, match="with changes: `data.batch_size` 8 → 4"):
        meant.fit(toy_module(toy_model), toy_data(batch_size=4), ckpt_path="last")
    change = {"round": 1, "setting": "data.batch_size", "before": 8, "now": 4}
    assert json.loads((root / "summary.json").read_text())["changes"] == [change]
    # from now on that is how the run is, and what was changed is not forgotten
    further = toy_trainer(root, max_rounds=3)
    further.fit(toy_module(toy_model), toy_data(batch_size=4), ckpt_path="last")
    assert further.federation.changes == [change]


def test_a_checkpoint_of_another_shape_is_refused_also_where_changes_are_meant(
    run: Path, toy_model: Path
) -> None:
    backbone = SequenceClassifier(str(toy_model), peft=LoraConfig(r=2))
    with pytest.raises(ValueError, match=r"does not fit the model: .* of shape \[2, 32\]") as error:
        toy_trainer(run, resume_with_changes=True, max_rounds=2).fit(
            fed_avg(toy_model, backbone=backbone), toy_data(), ckpt_path="last"
        )
    assert "\n" not in str(error.value)


def test_an_evaluation_asks_for_the_method_and_the_model_alone(run: Path, toy_model: Path) -> None:
    trainer = toy_trainer(run, seed=7, local_epochs=3)
    trainer.test(fed_avg(toy_model, optimizer=sgd), toy_data(num_clients=3), ckpt_path="last")
    rank = SequenceClassifier(str(toy_model), peft=LoraConfig(r=2, lora_dropout=0.1))
    with pytest.raises(RunDiffers, match=r"`model.backbone.peft.r` is expected to be 4 as in"):
        toy_trainer(run).test(fed_avg(toy_model, backbone=rank), toy_data(), ckpt_path="last")
    with pytest.raises(RunDiffers, match=r"`model` is expected to be FedAvg as in .* Renamed"):
        toy_trainer(run).test(
            Renamed(toy_backbone(toy_model, 0.1), optimizer=fast_adamw),
            toy_data(),
            ckpt_path="last",
        )


def test_a_checkpoint_of_the_first_format_is_taken_with_a_word(
    toy_model: Path, tmp_path: Path
) -> None:
    toy_trainer(tmp_path, max_rounds=1).fit(toy_module(toy_model), toy_data())
    path = tmp_path / "checkpoints" / "round=0001" / "state.json"
    (path.parent / "SHA256SUMS").unlink()
    state = json.loads(path.read_text())
    state |= {"format": 1, "run": {"method": "FedAvg", "trainer.seed": 0, "data.tasks": None}}
    state["history"][0]["round"] = 0.0
    del state["changes"]
    path.write_text(json.dumps(state))
    trainer = toy_trainer(tmp_path, max_rounds=2)
    with pytest.warns(UserWarning, match="was written before checkpoints recorded"):
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path="last")
    assert [row["round"] for row in trainer.federation.history] == [1, 2]
    state["run"]["method"] = "FedProx"
    path.write_text(json.dumps(state))
    with pytest.raises(RunDiffers, match="`model` is expected to be FedProx"):
        toy_trainer(tmp_path / "new").fit(
            toy_module(toy_model), toy_data(), ckpt_path=str(path.parent)
        )


def test_the_same_run_has_the_same_identity_whatever_it_was_built_from(
    toy_model: Path, tmp_path: Path
) -> None:
    """Another folder, another head and adapter at random, rows that lie otherwise in memory."""
    rows = toy_rows(96, 0)
    shuffled = rows.select(list(reversed(range(96)))).select(list(reversed(range(96))))

    def identity(model: Path, seed: int, **data: Any) -> dict[str, Any]:
        torch.manual_seed(seed)
        backbone = SequenceClassifier(str(model), peft=LoraConfig(r=4, lora_alpha=8))
        made = toy_data(**data)
        made.setup()
        return identity_of(fed_avg(model, backbone=backbone), made, vars(toy_trainer(tmp_path)))

    one = identity(toy_model, 0, train=rows)
    other = identity(save_toy_model(tmp_path / "elsewhere"), 1, train=shuffled)
    assert differences(one, other) == {}
    assert one == json.loads(json.dumps(one))


def test_an_argument_under_another_name_is_seen() -> None:
    from lit_fed.federation.run.description import described

    one, other = (described("a", Scaled(factor)) for factor in (1.0, 2.0))
    assert differences(one, other) == {"a.strength": (1.0, 2.0)}


def test_what_a_module_is_at_the_moment_is_no_part_of_it(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path / "run", max_rounds=1)
    module, data = toy_module(toy_model), toy_data()
    data.setup()
    before = identity_of(module, data, vars(trainer))
    trainer.fit(module, data)
    assert differences(before, identity_of(module, data, vars(trainer))) == {}
    # so that the same objects can go on in the same process
    further = toy_trainer(tmp_path / "run", max_rounds=2)
    further.fit(module, data, ckpt_path="last")
    assert further.current_round == 2


@pytest.mark.parametrize(
    ("before", "now"), [(1, 1.0), (True, 1), ([1], [1.0]), ({"a": 1}, {"a": 1.0})]
)
def test_a_count_is_no_fraction(before: object, now: object) -> None:
    assert differences({"x": before}, {"x": now}) == {"x": (before, now)}
    assert differences({"x": before}, {"x": before}) == {}
