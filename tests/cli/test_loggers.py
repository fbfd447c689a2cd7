"""Loggers by class path from a YAML: MLflow with its store of files, W&B offline; what each of them then holds."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_fed.cli import main
from tests.federation.toy import save_toy_config


def wandb_records(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings and the rows that a run of W&B has left on disk."""
    from wandb.proto.wandb_internal_pb2 import Record

    config: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for data in _logged(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        for update in (record.config, record.run.config):
            config |= _read(update.update)
        if record.WhichOneof("record_type") == "history":
            rows.append(_read(record.history.item))
    return config, rows


def _read(items: Any) -> dict[str, Any]:
    return {
        "/".join(filter(None, [one.key, *one.nested_key])): json.loads(one.value_json)
        for one in items
    }


def _logged(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's format of logs: blocks of 32 KiB of parts, each behind 7 bytes."""
    place, record = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


@pytest.mark.slow
def test_mlflow_and_wandb_get_settings_and_every_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(sys, "argv", ["lit-fed"])
    monkeypatch.chdir(tmp_path)
    store = f"file:{tmp_path / 'mlruns'}"
    loggers = [
        {
            "class_path": "lightning.pytorch.loggers.MLFlowLogger",
            "init_args": {"experiment_name": "wards", "tracking_uri": store},
        },
        {
            "class_path": "lightning.pytorch.loggers.WandbLogger",
            "init_args": {"save_dir": str(tmp_path / "wandb"), "offline": True},
        },
    ]
    Path("loggers.yaml").write_text(yaml.safe_dump({"trainer": {"loggers": loggers}}))
    config = str(save_toy_config(tmp_path))
    root = "--trainer.default_root_dir=run"
    main(["fit", "--config", config, "--config", "loggers.yaml", root])

    tested = json.loads(Path("run/summary.json").read_text())["metrics"]
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("wards")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.params["model.optimizer.lr"] == "0.01"
    assert found.data.params["model"] == "FedAvg"
    assert found.info.status == "FINISHED"
    assert found.data.metrics["test/accuracy"] == tested["test/accuracy"]
    rounds = client.get_metric_history(found.info.run_id, "clients/train.loss.mean")
    assert [one.step for one in rounds] == [1, 2]

    wandb.finish()  # a process does so when it ends
    (file,) = Path("wandb").glob("wandb/offline-run-*/*.wandb")
    settings, rows = wandb_records(file)
    assert settings["model.optimizer.lr"] == 0.01
    assert settings["model"] == "FedAvg"
    losses = [row["clients/train/loss/mean"] for row in rows if "clients/train/loss/mean" in row]
    assert losses == pytest.approx([one.value for one in rounds])
    assert [row["test/accuracy"] for row in rows if "test/accuracy" in row] == [
        tested["test/accuracy"]
    ]
