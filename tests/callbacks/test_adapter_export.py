from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lit_fed.callbacks import AdapterExport
from lit_fed.federation import ClientState
from lit_fed.payload import Payload


class _Backbone:
    def __init__(self) -> None:
        self.holds = "server"
        self.is_sharded = False

    active_adapters = ("default",)
    checkpoint, auto_class, peft_type = "/base", "AutoModelForCausalLM", "LORA"

    def save_pretrained(self, folder: Path, *adapters: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(self.holds)


@pytest.fixture
def federation(trainer: Any) -> Any:
    backbone = _Backbone()
    trainer.module = SimpleNamespace(
        backbone=backbone, has_global_model=True, has_client_models=False
    )
    names = ("north/1", "south", "never sampled", "prepared alone")
    trainer.datamodule = SimpleNamespace(
        clients=[SimpleNamespace(id=name, rows=[]) for name in names], table_names={}, tests={}
    )
    trainer.act_as_client = lambda index: setattr(backbone, "holds", f"client {index}")
    trainer.act_as_server = lambda: setattr(backbone, "holds", "server")
    clients = {"south": ClientState(rounds=2), "north/1": ClientState(rounds=1)}
    clients["prepared alone"] = ClientState(prepared=Payload())
    trainer.federation = replace(trainer.federation, round=2, clients=clients)
    return trainer


def _files(trainer: Any) -> dict[str, str]:
    folder = trainer.log_dir
    """All files but the cards, one of which is in each folder."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    folders = {p.parent for p in files}
    assert {p.parent for p in files if p.name == "README.md"} == folders
    return {str(p.relative_to(folder)): p.read_text() for p in files if p.name != "README.md"}


def test_the_global_model_is_saved_and_replaces_an_earlier_export(federation: Any) -> None:
    (federation.log_dir / "adapter").mkdir(parents=True)
    (federation.log_dir / "adapter" / "old.safetensors").write_text("old")
    federation.call([AdapterExport()], "on_fit_end")
    assert _files(federation) == {"adapter/adapter_config.json": "server"}


def test_without_a_global_model_each_client_that_took_part_is_saved(federation: Any) -> None:
    federation.module.has_global_model = False
    federation.call([AdapterExport()], "on_fit_end")
    assert _files(federation) == {
        "adapter/north%2F1/adapter_config.json": "client 0",
        "adapter/south/adapter_config.json": "client 1",
    }
    assert federation.module.backbone.holds == "server"


@pytest.mark.parametrize("clients", [True, False])
def test_clients_with_models_beside_the_global_one_are_saved_as_well(
    clients: bool, federation: Any
) -> None:
    federation.module.has_client_models = True
    federation.call([AdapterExport(clients=clients)], "on_fit_end")
    own = {
        "client_adapters/north%2F1/adapter_config.json": "client 0",
        "client_adapters/south/adapter_config.json": "client 1",
    }
    assert _files(federation) == {"adapter/adapter_config.json": "server"} | (
        own if clients else {}
    )
    assert federation.module.backbone.holds == "server"


def test_the_clients_can_be_left_out(federation: Any) -> None:
    federation.module.has_global_model = False
    federation.call([AdapterExport(clients=False)], "on_fit_end")
    assert not federation.log_dir.exists()


@pytest.mark.parametrize("setting", [{"fast_dev_run": 1}, {"is_global_zero": False}])
def test_no_files_in_a_fast_dev_run_or_on_other_processes(
    federation: Any, setting: dict[str, Any]
) -> None:
    for name, value in setting.items():
        setattr(federation, name, value)
    federation.call([AdapterExport()], "on_fit_end")
    assert not federation.log_dir.exists()
