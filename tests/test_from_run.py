"""``FederatedModule.from_run``: the global model of a run, of every method, and what Lightning's users expect."""

import json
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from lightning.pytorch import Trainer
from peft import LoraConfig

from lit_fed import DDG, DDGMSI, MSI, FedAvg, FederatedModule, PrototypeDefense
from lit_fed.aggregation import FedAvgM, FedExLoRA, FLoRA, LocalOnly
from lit_fed.backbones import SequenceClassifier
from lit_fed.cli import main
from lit_fed.methods.prototype_defense import PretrainedEncoder
from tests.federation.toy import (
    fast_adamw,
    save_toy_config,
    toy_backbone,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)
from tests.slow import slow_but

OWN = '''
    """A method from a user's package."""
    from lit_fed import FedAvg


    class Boosted(FedAvg):
        def __init__(self, factor: float = 1.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor
            self.register_buffer("seen", __import__("torch").zeros(1))

        def training_step(self, batch, batch_idx):
            return self.factor * super().training_step(batch, batch_idx)
'''

METHODS: dict[str, dict[str, Any]] = {
    "lit_fed.FedAvg": {},
    "lit_fed.DDG": {"lambda_aggregate": 0.5},
    "lit_fed.MSI": {"inject_every": 2},
    "lit_fed.DDGMSI": {"inject_every": 2},
    "own_methods.Boosted": {"factor": 0.5},
}


@pytest.fixture(autouse=True)
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "own_methods.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path / "package")
    monkeypatch.delitem(sys.modules, "own_methods", raising=False)
    monkeypatch.setattr(sys, "argv", ["lit-fed"])
    monkeypatch.chdir(tmp_path)


def run_of(method: str, folder: Path) -> Path:
    """A run of two rounds by the command line, with another model and another adapter than the default ones."""
    path = save_toy_config(folder)
    config = yaml.safe_load(path.read_text())
    config["model"]["class_path"] = method
    given = config["model"]["init_args"] | METHODS[method]
    given["backbone"]["init_args"]["peft"] = {
        "class_path": "peft.LoraConfig",
        "init_args": {"r": 3, "target_modules": ["query"]},
    }
    config["model"]["init_args"] = given
    config["data"]["public_size"] = 10
    path.write_text(yaml.safe_dump(config))
    root = folder / "run"
    main(["fit", "--config", str(path), f"--trainer.default_root_dir={root}"])
    return root


def accuracy(module: FederatedModule, rows: Any) -> float:
    """By a pass of our own."""
    module.eval()
    tokens = module.tokenizer(list(rows["text"]), padding=True, return_tensors="pt")
    with torch.no_grad():
        predicted = module(dict(tokens)).logits.argmax(-1)
    return (predicted == torch.tensor(rows["label"])).float().mean().item()


@pytest.mark.parametrize("method", slow_but("lit_fed.DDGMSI", "own_methods.Boosted", of=METHODS))
def test_the_global_model_of_every_method(method: str, tmp_path: Path) -> None:
    root = run_of(method, tmp_path)
    tested = json.loads((root / "summary.json").read_text())["metrics"]["test/accuracy"]
    before = torch.get_rng_state()
    module = FederatedModule.from_run(root)
    assert torch.equal(torch.get_rng_state(), before)
    assert f"{type(module).__module__.partition('.')[0]}.{type(module).__name__}" == method
    assert accuracy(module, toy_rows(80, 1)) == pytest.approx(tested)
    assert module.loaded_from == root / "checkpoints" / "round=0002"
    first = type(module).load_from_checkpoint(root / "checkpoints" / "round=0001")
    weights = [m.backbone.trainable() for m in (first, module)]
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_another_class_than_that_of_the_run_is_refused(tmp_path: Path) -> None:
    root = run_of("lit_fed.FedAvg", tmp_path)
    assert isinstance(FedAvg.from_run(root), FedAvg)
    with pytest.raises(TypeError, match="is expected to be of a DDG, but is of a FedAvg"):
        DDG.from_run(root)
    (root / "config.yaml").write_text("model: {class_path: torch.nn.Linear}")
    with pytest.raises(ValueError, match="is expected to describe a FederatedModule, but") as error:
        FedAvg.from_run(root)
    assert "\n" not in str(error.value)
    (root / "config.yaml").write_text("model: !!python/object/apply:os.getcwd []")
    with pytest.raises(ValueError, match="is expected to describe a FederatedModule, but"):
        FedAvg.from_run(root)


def test_a_run_from_python_needs_its_module(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path / "run", max_rounds=1)
    trainer.fit(toy_module(toy_model), toy_data())
    with pytest.raises(FileNotFoundError, match=r"`module` is expected where a run has no config"):
        FedAvg.from_run(tmp_path / "run")
    module = toy_module(toy_model)
    assert FedAvg.from_run(tmp_path / "run", module=module) is module
    trained = trainer.federation.broadcast.tensors
    assert all(torch.equal(module.backbone.trainable()[n], t) for n, t in trained.items())
    with pytest.raises(ValueError, match="`module` is expected to be a FedAvg as in checkpoint"):
        FederatedModule.from_run(tmp_path / "run", MSI(toy_backbone(toy_model)))
    small = FedAvg(SequenceClassifier(str(toy_model), peft=LoraConfig(r=2)))
    with pytest.raises(ValueError, match=r"does not fit the module: .* of shape"):
        FederatedModule.from_run(tmp_path / "run", small)
    with pytest.raises(FileNotFoundError, match=r"`folder` is expected to be .* not there"):
        FedAvg.from_run(tmp_path / "absent")


def test_what_the_server_remembers_comes_along(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path / "run", max_rounds=2)
    trainer.fit(FedAvg(toy_backbone(toy_model), FedAvgM()), toy_data())
    module = FedAvg(toy_backbone(toy_model), FedAvgM())
    FedAvg.from_run(tmp_path / "run", module)
    remembered = trainer.federation.server
    assert remembered.tensors
    assert module.server_state() == remembered


def test_an_encoder_of_prototypes_is_the_runs_where_labels_have_names(
    toy_model: Path, tmp_path: Path
) -> None:
    def named(seed: int) -> Dataset:
        rows = toy_rows(60, seed)
        names = [("bad", "good")[label] for label in rows["label"]]
        return rows.remove_columns("label").add_column("label", names)

    def module() -> PrototypeDefense:
        settings = {"num_prototypes": 4, "lambda_distill": 0.0, "encoder": PretrainedEncoder()}
        return PrototypeDefense(toy_backbone(toy_model), **settings)

    tables = {name: named(i) for i, name in enumerate(("train", "validation", "test", "public"))}
    trained, trainer = module(), toy_trainer(tmp_path / "run", max_rounds=1, test_at_end=False)
    trainer.fit(trained, toy_data(**tables))
    restored = PrototypeDefense.from_run(tmp_path / "run", module())
    assert restored.prototypes.digest == trained.prototypes.digest
    assert restored.prototypes.labels == ("bad", "good")


def test_a_damaged_checkpoint_is_named(toy_model: Path, tmp_path: Path) -> None:
    toy_trainer(tmp_path / "run", max_rounds=1).fit(toy_module(toy_model), toy_data())
    path = tmp_path / "run" / "checkpoints" / "round=0001" / "broadcast.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"round=0001 is .* damaged \(broadcast.safetensors: "):
        FedAvg.from_run(tmp_path / "run", module=toy_module(toy_model))


def test_hparams_are_the_plain_arguments(toy_model: Path) -> None:
    module = DDGMSI(toy_backbone(toy_model), temperature=2.0, warmup_steps=3, mu=0.5)
    assert {k: module.hparams[k] for k in ("temperature", "warmup_steps", "mu")} == {
        "temperature": 2.0,
        "warmup_steps": 3,
        "mu": 0.5,
    }
    assert "backbone" not in module.hparams
    assert "optimizer" not in module.hparams


def test_a_stock_trainers_checkpoint_takes_parts_as_arguments(
    toy_model: Path, tmp_path: Path
) -> None:
    module = FedAvg(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=4)
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=toy_data())
    (path,) = tmp_path.rglob("*.ckpt")
    loaded = FedAvg.load_from_checkpoint(path, backbone=toy_backbone(toy_model))
    assert loaded.warmup_steps == 4
    ours, theirs = module.state_dict(), loaded.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    small = SequenceClassifier(str(toy_model), peft=LoraConfig(r=2))
    with pytest.raises(ValueError, match=r"does not fit FedAvg .*backbone=…") as error:
        FedAvg.load_from_checkpoint(path, backbone=small)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", [FLoRA, FedExLoRA])
def test_a_base_that_a_rule_has_changed_stays_changed(
    rule: type[Any], toy_model: Path, tmp_path: Path
) -> None:
    """Whatever has the trained module: it is tested, trained on and asked as the run has left it."""

    def make() -> FedAvg:
        return FedAvg(toy_backbone(toy_model), aggregation=rule(), optimizer=fast_adamw)

    whole = toy_trainer(tmp_path / "run", max_rounds=2, clients_per_round=1.0)
    fitted = make()
    whole.fit(fitted, toy_data())
    names = ("test/loss", "test/accuracy")
    right = [whole.final_metrics[name] for name in names]
    loaded = FedAvg.from_run(tmp_path / "run", module=make())
    again = toy_trainer(tmp_path / "again", max_rounds=1, num_sanity_val_steps=0)
    for module in (loaded, fitted):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (tested,) = again.test(module, toy_data())
        assert [tested[name] for name in names] == pytest.approx(right, rel=1e-5)
    starts = again.federation.broadcast.parts["base_change"]
    assert starts
    again.fit(loaded, toy_data())
    more = again.federation.broadcast.parts["base_change"]
    assert set(more.tensors) == set(starts.tensors)


def test_a_run_whose_clients_have_models_says_that_these_are_not_loaded(
    toy_model: Path, tmp_path: Path
) -> None:
    def make() -> FedAvg:
        return FedAvg(toy_backbone(toy_model), aggregation=LocalOnly(), optimizer=fast_adamw)

    toy_trainer(tmp_path / "run", max_rounds=2, clients_per_round=1.0).fit(make(), toy_data())
    loaded = FedAvg.from_run(tmp_path / "run", module=make())
    folder = str(tmp_path / "run" / "checkpoints" / "round=0002")
    other = toy_trainer(tmp_path / "other")
    with pytest.warns(UserWarning, match=f"without the clients' own models.*name '{folder}'"):
        other.test(loaded, toy_data())
    with pytest.raises(ValueError, match=f"name a checkpoint as `ckpt_path`, such as '{folder}'"):
        other.export(loaded, str(tmp_path / "exported"), toy_data())
