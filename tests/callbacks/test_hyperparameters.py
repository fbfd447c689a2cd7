"""The tab HParams as TensorBoard's own plugin reads it: runs side by side, with settings and how they ended."""

from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.loggers import CSVLogger
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from lit_fed import FedAvg, FedProx
from lit_fed.callbacks import Hyperparameters
from lit_fed.callbacks.hyperparameters import settings_of
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_module, toy_trainer


def table(folder: Path) -> tuple[list[str], list[str], dict[str, dict[str, Any]]]:
    """What the tab shows: the columns of settings and of metrics, and by session the values of both."""
    runs = EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    provider = MultiplexerDataProvider(runs, str(folder))
    backend = backend_context.Context(
        TBContext(data_provider=provider, logdir=str(folder), multiplexer=runs)
    )
    context = RequestContext()
    metadata = backend.hparams_metadata(context, "")
    experiment = backend.experiment_from_metadata(context, "", True, metadata, [])
    every = [api_pb2.Status.Value(name) for name in list(api_pb2.Status.keys())]
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=every, slice_size=10, include_metrics=True
    )
    request.col_params.extend(
        [api_pb2.ColParams(hparam=info.name) for info in experiment.hparam_infos]
    )
    groups = list_session_groups.Handler(context, backend, "", request).run().session_groups
    sessions: dict[str, dict[str, Any]] = {}
    for group in groups:
        (session,) = group.sessions
        values = {k: v.number_value or v.string_value for k, v in group.hparams.items()}
        values |= {one.name.tag: one.value for one in session.metric_values}
        sessions[session.name.partition("/")[0]] = values | {"status": session.status}
    hparams = [info.name for info in experiment.hparam_infos]
    return hparams, [info.name.tag for info in experiment.metric_infos], sessions


def test_runs_under_one_folder_compare(toy_model: Path, tmp_path: Path) -> None:
    settings = {"max_rounds": 1, "loggers": True}
    modules = {
        "a": toy_module(toy_model),
        "b": FedProx(toy_backbone(toy_model), mu=0.25, optimizer=fast_adamw),
    }
    tested = {}
    for name, module in modules.items():
        trainer = toy_trainer(tmp_path / name, **settings)
        trainer.fit(module, toy_data())
        tested[name] = trainer.final_metrics
    columns, metrics, sessions = table(tmp_path)
    assert metrics[:2] == ["test/accuracy", "test/loss"]
    assert set(metrics) == {
        "test/accuracy", "test/loss", "val/accuracy", "val/loss", "bytes/total",
    }  # fmt: skip
    assert {"model", "model.optimizer.lr", "trainer.clients_per_round", "data.num_clients"} <= set(
        columns
    )
    assert not [name for name in columns if ".config." in name]
    # the first five are shown
    assert columns[:3] == ["data.num_clients", "model", "model.aggregation"]
    assert columns[3:5] == ["model.optimizer.lr", "trainer.local_epochs"]
    assert {name: one["model"] for name, one in sessions.items()} == {"a": "FedAvg", "b": "FedProx"}
    for name, metric in ((n, m) for n in modules for m in ("test/accuracy", "test/loss")):
        assert sessions[name][metric] == pytest.approx(tested[name][metric], rel=1e-6)
    assert sessions["a"]["status"] == api_pb2.Status.Value("STATUS_SUCCESS")


def test_a_run_that_is_broken_off_is_there_with_its_settings(
    toy_model: Path, tmp_path: Path
) -> None:
    class Breaks(FedAvg):
        def aggregate(self, updates: Any) -> Any:
            raise RuntimeError("broken off")

    trainer = toy_trainer(tmp_path / "run", loggers=True)
    with pytest.raises(RuntimeError, match="broken off"):
        trainer.fit(Breaks(toy_backbone(toy_model)), toy_data())
    columns, _, sessions = table(tmp_path)
    assert "model.optimizer.lr" in columns
    assert sessions["run"]["model"].endswith("Breaks")


def test_loggers_that_take_no_settings_and_names_that_mlflow_refuses(trainer: Any) -> None:
    trainer.loggers = [CSVLogger(str(trainer.log_dir))]
    trainer.call([Hyperparameters()], "on_fit_start")
    told = settings_of({"model.lr_factors.ward, é": 2.0, "model.backbone.config.label2id.x": 0})
    assert told == {"model.lr_factors.ward_ é": 2.0}
