"""Metrics' names in the stores of loggers that bear less than TensorBoard does."""

from pathlib import Path

import pytest
from lightning.fabric.loggers import CSVLogger
from lightning.pytorch.loggers import MLFlowLogger

from lit_fed.federation.run.metric_names import named_for

METRICS = {
    "test/loss": 0.5,
    "test/loss/unseen_names": 0.75,
    "index/RSI": 80.0,
    "index/RSI/perturbed/a": 70.0,
    "server/label_share/5 € (☕)": 0.25,
    "drift": 1.0,
}


def test_mlflows_store_of_files_takes_every_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger("wards", tracking_uri=f"file:{tmp_path / 'mlruns'}")
    logger.log_metrics(named_for(logger, METRICS), step=1)
    client = mlflow.MlflowClient(f"file:{tmp_path / 'mlruns'}")
    assert client.get_run(logger.run_id).data.metrics == {
        "test/loss": 0.5,
        "test/loss.unseen_names": 0.75,
        "index/RSI": 80.0,
        "index/RSI.perturbed.a": 70.0,
        "server/label_share.5 u20ac u28u2615u29": 0.25,
        "drift": 1.0,
    }


def test_other_loggers_have_names_as_they_are(tmp_path: Path) -> None:
    assert named_for(CSVLogger(tmp_path), METRICS) == METRICS
