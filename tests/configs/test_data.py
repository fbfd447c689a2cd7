"""Overlays of data and of clients come over a method, and keep what they do not name."""

from pathlib import Path

import pytest
import yaml

from lit_fed.cli import LitFedCLI
from lit_fed.data.columns import ROW_ID
from tests.configs.data_files import (
    instruction_files,
    sst2_files,
    sst2_trec_files,
    tatoeba_files,
    trec_files,
)
from tests.configs.listed import (
    CLASSIFIERS,
    CLIENTS,
    CONFIGS,
    FEW_OF_FILES,
    GENERATING,
    INSTRUCTIONS,
    METHOD,
    OVERLAY_NAMES,
    OVERLAYS,
    POOLED,
    QUICK,
    THREE_MODELS,
    read_with,
)
from tests.methods.toy_methods import save_toy_lm
from tests.slow import slow_but


@pytest.mark.parametrize(
    "path",
    slow_but(*(path for path in OVERLAYS if path.stem in ("alpaca", "sst2_trec")), of=OVERLAYS),
    ids=OVERLAY_NAMES,
)
def test_an_overlay_changes_the_data_of_a_method(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    method = GENERATING if path.stem in INSTRUCTIONS else METHOD
    assert first == (
        f"# lit-fed fit --config configs/{method.name} --config configs/data/{path.name}"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    if path.stem == "tatoeba":
        tatoeba_files(tmp_path)
    elif path.stem == "sst2_trec":
        smaller += sst2_trec_files(tmp_path)
    elif path.stem in ("sst2", "trec"):
        {"sst2": sst2_files, "trec": trec_files}[path.stem](tmp_path)
        smaller.append("--data.public_size=8")
    elif path.stem in INSTRUCTIONS:
        instruction_files(tmp_path)
    overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
    cli = LitFedCLI(["fit", "--config", str(method), "--config", str(path), *smaller])
    assert type(cli.model).__name__ == "FedAvg"
    data = cli.datamodule
    assert data.tasks == overlay["data"].get("tasks")
    if data.tasks is None:
        return
    tables = {**data.tests, "public": data.public, "validation": data.validation}
    assert all(set(rows["task"]) == set(data.tasks) for rows in tables.values() if rows is not None)
    if path.stem == "sst2_trec":
        labels = {"sst2": {0, 1}, "trec": {2, 3, 4, 5, 6}}
        rows = data.tests["test"]
        assert {
            task: {y for y, t in zip(rows["label"], rows["task"], strict=True) if t == task}
            for task in data.tasks
        } == labels


FEW_ROWS = [path for path in CLIENTS if path not in (THREE_MODELS, FEW_OF_FILES, POOLED)]


@pytest.mark.parametrize("path", FEW_ROWS, ids=[path.stem for path in FEW_ROWS])
def test_clients_with_few_rows_come_over_data(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    sst2_files(tmp_path)
    smaller = ["--data.public_size=8", "--data.partitioner.init_args.max_rows=2"]
    configs = [f"--config={one}" for one in read_with(path, METHOD.stem)]
    cli = LitFedCLI(["fit", *configs, *smaller, "--trainer.fast_dev_run=true"])
    told = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    clients = cli.datamodule.clients
    assert max(len(client.rows) for client in clients) <= 2
    if "client_groups" in told:  # which comes over the clients that another YAML makes
        assert [client.group for client in clients] == ["first", *["others"] * (len(clients) - 1)]
        return
    assert len(clients) == told["num_clients"]


def test_the_rows_of_all_clients_are_in_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    sst2_files(tmp_path)
    *configs, pooled = [f"--config={one}" for one in read_with(POOLED, "centralized")]
    smaller = ["--data.public_size=8", "--data.partitioner.init_args.max_rows=2"]
    smaller += ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    apart = LitFedCLI(["fit", *configs, *smaller]).datamodule
    together = LitFedCLI(["fit", *configs, pooled, *smaller]).datamodule
    assert [len(client.rows) for client in apart.clients] == [2] * 4
    (client,) = together.clients
    assert client.rows[ROW_ID][:] == apart.pooled[ROW_ID][:]


def test_few_rows_of_files_are_their_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    instruction_files(tmp_path)
    configs = [f"--config={path}" for path in read_with(FEW_OF_FILES, GENERATING.stem)]
    smaller = ["--data.partitioner.init_args.max_rows=3", "--trainer.clients_per_round=1.0"]
    smaller += ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    data = LitFedCLI(["fit", *configs, *smaller]).datamodule
    for client in data.clients:
        assert client.rows["client"][:] == [client.id] * 3
    assert len(data.clients) > 1


def test_clients_with_three_models_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    sst2_files(tmp_path)
    files = read_with(THREE_MODELS, "semantic_consensus")
    files = [path for path in files if path.parent.name != "backbones"]  # there is no hub
    overlay = yaml.safe_load(THREE_MODELS.read_text(encoding="utf-8"))
    language_model = overlay["model"]["init_args"]["clients"][1]["backbone"]["init_args"]
    assert language_model["model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    language_model["model"] = str(save_toy_lm(tmp_path / "model"))
    Path("three_models.yaml").write_text(yaml.safe_dump(overlay))
    configs = [f"--config={one}" for one in [*files[:-1], "three_models.yaml"]]
    smaller = ["--data.public_size=8", "--data.partitioner.init_args.max_rows=4"]
    smaller += ["--model.warmup_rounds=1", "--trainer.enable_progress_bar=false"]
    cli = LitFedCLI(["fit", *configs, *smaller, "--trainer.fast_dev_run=true"])
    groups = cli.model.backbones.values()
    kinds = {type(one.model.base_model.model).__name__ for one in groups}
    assert {kind.partition("For")[0] for kind in kinds} == {"Bert", "Llama"}
    (row,) = cli.trainer.federation.history
    assert 0 <= row["server/abstain_rate"] <= 1
    assert len(cli.trainer.federation.ledger.clients) == 4


@pytest.mark.parametrize("path", OVERLAYS, ids=OVERLAY_NAMES)
def test_data_with_a_public_set_to_carve_off_takes_back_a_methods_own(path: Path) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    if data.get("public_size"):
        assert data.get("public", "the method's") is None


def test_the_embedded_instructions_are_whole_over_any_method(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the one of the methods that takes fewer rows
    files = [CONFIGS / "fedsdr.yaml", CONFIGS / "data" / "embedded_instructions.yaml"]
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", *(f"--config={file}" for file in files), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)["data"]
    for split in ("train", "validation", "test"):
        assert printed[split]["init_args"]["size"] is None


@pytest.mark.parametrize(
    "method",
    slow_but(
        *(path for path in CLASSIFIERS if path.stem in (*QUICK, "flora", "scaffold")),
        of=CLASSIFIERS,
    ),
    ids=[path.stem for path in CLASSIFIERS],
)
def test_an_overlay_keeps_what_it_does_not_name(
    method: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the one of the overlays that changes the model, and names no class of it
    path = CONFIGS / "data" / "sst2_trec.yaml"
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", "--config", str(method), "--config", str(path), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    alone = yaml.safe_load(method.read_text(encoding="utf-8"))
    overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert printed["model"]["class_path"] == alone["model"]["class_path"]
    assert printed["trainer"]["local_steps"] == overlay["trainer"]["local_steps"]
    assert printed["trainer"]["name"] == alone["trainer"]["name"]
    changed = overlay["model"]["init_args"]["backbone"]["init_args"]
    kept = alone["model"]["init_args"]["backbone"]
    backbone = printed["model"]["init_args"]["backbone"]
    assert backbone["class_path"] == kept["class_path"]
    assert {name: backbone["init_args"][name] for name in changed} == changed
    assert backbone["init_args"]["peft"]["class_path"] == kept["init_args"]["peft"]["class_path"]
