"""Each of Lightning's callbacks and loggers in a small federation: it acts, or is refused by name before training."""

from __future__ import annotations

import csv
import inspect
import logging
import os
from collections.abc import Callable
from itertools import count, product
from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks as lightning_callbacks
import lightning.pytorch.loggers as lightning_loggers
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    Callback,
    Checkpoint,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    ModelSummary,
    OnExceptionCheckpoint,
    ProgressBar,
    RichModelSummary,
    RichProgressBar,
    SpikeDetection,
    StochasticWeightAveraging,
    ThroughputMonitor,
    Timer,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import (
    CometLogger,
    CSVLogger,
    LitLogger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from lit_fed import FederatedTrainer
from lit_fed.callbacks import ClientLearningRate, FederatedCallback, PeakMemory
from lit_fed.data import FederatedDataModule
from lit_fed.federation import VectorizedClients
from lit_fed.federation.sampling import FixedOrderSampler
from tests.federation.execution.launched import config_with, last_state, python_m
from tests.federation.toy import toy_data, toy_module, toy_rows, toy_trainer
from tests.slow import slow_but

EXECUTIONS: dict[str, Callable[[], Any]] = {
    "sequential": lambda: None,
    "vectorized": lambda: VectorizedClients(clients_at_once=2),
}


@pytest.fixture(params=EXECUTIONS)
def execution(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Makes an execution, of which each trainer has its own."""
    return EXECUTIONS[request.param]


def small_data() -> FederatedDataModule:
    return toy_data(train=toy_rows(48, 0), validation=toy_rows(8, 1), test=toy_rows(8, 2))


Fit = Callable[..., FederatedTrainer]


@pytest.fixture
def fit(toy_model: Path, tmp_path: Path, execution: Callable[[], Any]) -> Fit:
    runs = count()

    def run(*callbacks: Callback, **settings: Any) -> FederatedTrainer:
        given: dict[str, Any] = {
            "callbacks": list(callbacks),
            "execution": execution(),
            "clients_per_round": 2,
            "test_at_end": False,
            "enable_checkpointing": False,
        }
        trainer = toy_trainer(tmp_path / f"run{next(runs)}", **given | settings)
        trainer.fit(toy_module(toy_model), small_data())
        return trainer

    return run


# ---------------------------------------------------------------- those that work


def early_stopping(fit: Fit, tmp_path: Path, capsys: Any) -> None:
    for at_end in (None, False, True):
        stopping = EarlyStopping(
            "val/loss", patience=1, min_delta=100, check_on_train_epoch_end=at_end
        )
        trainer = fit(stopping, max_rounds=5)
        assert trainer.current_round == 2
        assert stopping.stopped_epoch == 1


def timer(fit: Fit, tmp_path: Path, capsys: Any) -> None:
    for interval in ("step", "epoch"):
        clock = Timer(duration={"microseconds": 1}, interval=interval)
        assert fit(clock).current_round == 1
        assert clock.time_elapsed("train") > clock.time_elapsed("validate") > 0
    clock = Timer(duration={"hours": 1})
    assert fit(clock).current_round == 3


def gradient_accumulation(fit: Fit, tmp_path: Path, capsys: Any) -> None:
    trainer = fit(GradientAccumulationScheduler({1: 2}), local_epochs=2, clients_per_round=1.0)
    for client in trainer.datamodule.clients:
        batches = -(-len(client.rows) // 8)
        steps = 2 * batches + 2 * 2 * -(-batches // 2)
        assert trainer.federation.clients[client.id].steps == steps


def lambda_callback(fit: Fit, tmp_path: Path, capsys: Any) -> None:
    seen: list[tuple[str, int, bool]] = []

    def note(name: str) -> Callable[..., None]:
        def called(trainer: Any, module: Any, *_: Any) -> None:
            seen.append((name, trainer.current_epoch, module.client is None))

        return called

    names = ["on_train_start", "on_train_epoch_start", "on_train_epoch_end", "on_train_end"]
    fit(LambdaCallback(**{name: note(name) for name in names}), max_rounds=2)
    assert seen == [
        ("on_train_start", 0, True),
        ("on_train_epoch_start", 0, True),
        ("on_train_epoch_end", 0, True),
        ("on_train_epoch_start", 1, True),
        ("on_train_epoch_end", 1, True),
        ("on_train_end", 2, True),
    ]


def model_summary(fit: Fit, tmp_path: Path, capsys: Any) -> None:
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("lightning.pytorch.callbacks.model_summary"), Kept()
    log.addHandler(handler)
    try:
        fit(ModelSummary(max_depth=2), max_rounds=1)
    finally:
        log.removeHandler(handler)
    assert "Trainable params" in "".join(lines)


def rich_model_summary(fit: Fit, tmp_path: Path, capsys: Any) -> None:
    fit(RichModelSummary(), max_rounds=1)
    assert "Trainable params" in capsys.readouterr().out


def plain(kind: type[Callback]) -> Callable[[Fit, Path, Any], None]:
    """Base classes, of which a user's own is called."""

    def check(fit: Fit, tmp_path: Path, capsys: Any) -> None:
        class Own(kind):  # type: ignore[valid-type, misc]
            rounds = 0

            def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
                self.rounds += 1

        own = Own()
        fit(own, max_rounds=2)
        assert own.rounds == 2

    return check


WORKING: dict[type[Callback], Callable[[Fit, Path, Any], None]] = {
    Callback: plain(Callback),
    Checkpoint: plain(Checkpoint),
    EarlyStopping: early_stopping,
    GradientAccumulationScheduler: gradient_accumulation,
    LambdaCallback: lambda_callback,
    ModelSummary: model_summary,
    RichModelSummary: rich_model_summary,
    Timer: timer,
}


@pytest.mark.parametrize(
    ("execution", "kind"),
    slow_but(
        *product(["sequential"], WORKING),
        ("vectorized", EarlyStopping),
        of=product(EXECUTIONS, WORKING),
    ),
    indirect=["execution"],
)
def test_it_acts(kind: type[Callback], fit: Fit, tmp_path: Path, capsys: Any) -> None:
    WORKING[kind](fit, tmp_path, capsys)


def _rows(path: Path) -> dict[str, int]:
    """Rows of each client of a configuration."""
    with (path.parent / "run" / "clients.csv").open() as file:
        return {row["client"]: int(row["rows"]) for row in csv.DictReader(file)}


@pytest.mark.slow
def test_they_act_in_two_processes(tmp_path: Path) -> None:
    path = Path(config_with(tmp_path, max_rounds=5, accumulate_grad_batches=1))
    config = yaml.safe_load(path.read_text())
    config["data"] |= {"validation_fraction": 0.2, "batch_size": 8}
    config["trainer"]["callbacks"] = [
        {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": given}
        for name, given in {
            "EarlyStopping": {
                "monitor": "val/loss",
                "min_delta": 100.0,
                "patience": 1,
                "check_on_train_epoch_end": True,
                "verbose": True,
            },
            "GradientAccumulationScheduler": {"scheduling": {1: 100}},
            "Timer": {"duration": "00:01:00:00", "interval": "epoch"},
        }.items()
    ] + [{"class_path": "lit_fed.callbacks.ClientLearningRate"}]
    path.write_text(yaml.safe_dump(config))
    run = python_m("lit_fed", "fit", "--config", str(path))
    assert run.returncode == 0, run.stderr
    state = last_state(tmp_path / "run")
    assert state.round == 2
    assert [row["clients/lr/mean"] for row in state.history] == pytest.approx([0.01] * 2)
    # in the second round each client took all its batches as one step
    first = {name: -(-rows // 8) for name, rows in _rows(path).items()}
    assert {name: one.steps - 1 for name, one in state.clients.items()} == first


# ---------------------------------------------------------------- those that are refused

REFUSED: dict[type[Callback], tuple[Callable[[], Callback], str]] = {
    BackboneFinetuning: (BackboneFinetuning, "start_stage"),
    BaseFinetuning: (BaseFinetuning, "model.aggregation"),
    BasePredictionWriter: (BasePredictionWriter, "FederatedTrainer.predict"),
    BatchSizeFinder: (BatchSizeFinder, "data.batch_size"),
    DeviceStatsMonitor: (DeviceStatsMonitor, "lit_fed.callbacks.PeakMemory"),
    EMAWeightAveraging: (EMAWeightAveraging, "model.aggregation"),
    LearningRateFinder: (LearningRateFinder, "model.optimizer"),
    LearningRateMonitor: (LearningRateMonitor, "lit_fed.callbacks.ClientLearningRate"),
    ModelCheckpoint: (ModelCheckpoint, "lit_fed.callbacks.RoundCheckpoint"),
    ModelPruning: (lambda: ModelPruning("l1_unstructured"), "model.aggregation"),
    OnExceptionCheckpoint: (
        lambda: OnExceptionCheckpoint("checkpoints"),
        "lit_fed.callbacks.RoundCheckpoint",
    ),
    ProgressBar: (ProgressBar, "lit_fed.callbacks.RoundProgressBar"),
    RichProgressBar: (RichProgressBar, "lit_fed.callbacks.RoundProgressBar"),
    SpikeDetection: (SpikeDetection, "loss is not finite"),
    StochasticWeightAveraging: (lambda: StochasticWeightAveraging(0.1), "model.aggregation"),
    ThroughputMonitor: (
        lambda: ThroughputMonitor(lambda batch: 1),
        "lit_fed.callbacks.RoundProfiler",
    ),
    TQDMProgressBar: (TQDMProgressBar, "lit_fed.callbacks.RoundProgressBar"),
    WeightAveraging: (WeightAveraging, "model.aggregation"),
}


def test_all_of_lightnings_callbacks_are_decided() -> None:
    every = {getattr(lightning_callbacks, name) for name in lightning_callbacks.__all__}
    assert every == WORKING.keys() | REFUSED.keys()
    assert not WORKING.keys() & REFUSED.keys()


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_it_is_refused_in_one_line_that_names_what_there_is_instead(
    kind: type[Callback], tmp_path: Path
) -> None:
    make, instead = REFUSED[kind]
    with pytest.raises(ValueError, match=r"`trainer\.callbacks`") as refused:
        toy_trainer(tmp_path, callbacks=make())
    message = str(refused.value)
    assert message.startswith(f"`trainer.callbacks` {kind.__name__} ")
    assert instead in message
    assert "\n" not in message


def test_what_is_named_instead_exists() -> None:
    import lit_fed

    for _, instead in REFUSED.values():
        if instead.startswith("lit_fed."):
            assert hasattr(lit_fed.callbacks, instead.rpartition(".")[2])


def test_a_subclass_is_refused_as_well(tmp_path: Path) -> None:
    class Mine(ModelCheckpoint):
        pass

    with pytest.raises(ValueError, match="Mine has no place in a federation"):
        toy_trainer(tmp_path, callbacks=[Mine()])


@pytest.mark.parametrize("given", [EarlyStopping, "EarlyStopping"])
def test_what_is_no_callback(tmp_path: Path, given: Any) -> None:
    with pytest.raises(
        TypeError, match=r"`trainer\.callbacks` is expected to be an instance of Callback, but got"
    ):
        toy_trainer(tmp_path, callbacks=[given])


# ---------------------------------------------------------------- hooks

FILE_HOOKS = {"on_save_checkpoint", "on_load_checkpoint"}
HOOKS = {
    name
    for name, _ in inspect.getmembers(Callback, inspect.isfunction)
    if name.startswith("on_") or name in {"setup", "teardown"}
} - FILE_HOOKS


def test_every_hook_of_a_callback_is_called(fit: Fit, toy_model: Path) -> None:
    seen: set[str] = set()

    def noted(name: str) -> Callable[..., None]:
        return lambda *_: seen.add(name)

    class Broken(FederatedCallback):
        def on_round_start(self, trainer: Any, module: Any, clients: Any) -> None:
            raise RuntimeError("broken")

    every = LambdaCallback(**{name: noted(name) for name in HOOKS})
    trainer = fit(every, max_rounds=1, test_at_end=True)
    trainer.predict(trainer.lightning_module, trainer.datamodule)
    assert HOOKS - seen == {"on_exception"}
    with pytest.raises(RuntimeError, match="broken"):
        fit(every, Broken(), max_rounds=1)
    assert seen == HOOKS


def test_each_stage_is_set_up_and_torn_down(toy_model: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    noting = LambdaCallback(
        setup=lambda trainer, module, stage: seen.append(f"setup {stage}"),
        teardown=lambda trainer, module, stage: seen.append(f"teardown {stage}"),
    )
    trainer, module = toy_trainer(tmp_path, max_rounds=1, callbacks=noting), toy_module(toy_model)
    trainer.fit(module, small_data())
    trainer.validate(module)
    trainer.test(module)
    trainer.predict(module)
    assert seen == [
        f"{what} {stage}"
        for stage in ("fit", "validate", "test", "predict")
        for what in ("setup", "teardown")
    ]
    rows = trainer.predictions(module)
    assert seen[-1] == "setup predict"
    list(rows)
    assert seen[-1] == "teardown predict"


def test_a_module_brings_its_own_callbacks_along(toy_model: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    class Noting(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            seen.append(self.name)

    module = toy_module(toy_model)
    module.configure_callbacks = lambda: Noting("the module's")  # type: ignore[method-assign]
    trainer = toy_trainer(tmp_path, max_rounds=2, callbacks=[Noting("the trainer's")])
    trainer.fit(module, small_data())
    trainer.test(module)
    assert seen == ["the module's"] * 2
    module.configure_callbacks = lambda: [WeightAveraging()]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="WeightAveraging"):
        toy_trainer(tmp_path / "refused", max_rounds=1).fit(module, small_data())


@pytest.mark.parametrize("hook", sorted(FILE_HOOKS))
def test_hooks_of_checkpoint_files_are_refused(hook: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"LambdaCallback has `{hook}`.*`state_dict`"):
        toy_trainer(tmp_path, callbacks=[LambdaCallback(**{hook: lambda *_: None})])


def test_the_epochs_of_an_evaluation_belong_to_the_module_as_well(
    toy_model: Path, tmp_path: Path
) -> None:
    module = toy_module(toy_model)

    class Counting(type(module)):  # type: ignore[misc]
        batches = 0

        def on_validation_epoch_start(self) -> None:
            self.batches = 0

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            super().validation_step(batch, batch_idx, dataloader_idx)
            self.batches += 1

        def on_validation_epoch_end(self) -> None:
            self.log("val/batches", float(self.batches))

    module.__class__ = Counting
    trainer = toy_trainer(tmp_path, max_rounds=2)
    data = small_data()
    trainer.fit(module, data)
    assert data.validation is not None
    batches = -(-len(data.validation) // data.eval_batch_size)
    assert [row["val/batches"] for row in trainer.federation.history] == [batches, batches]


def test_what_a_callback_counts_at_an_epochs_end_is_in_its_checkpoint(
    toy_model: Path, tmp_path: Path
) -> None:
    def stopping() -> EarlyStopping:
        return EarlyStopping("val/loss", patience=3, min_delta=100, check_on_train_epoch_end=True)

    toy_trainer(tmp_path, max_rounds=2, callbacks=stopping()).fit(
        toy_module(toy_model), small_data()
    )
    rest = toy_trainer(tmp_path, max_rounds=9, callbacks=stopping())
    rest.fit(toy_module(toy_model), small_data(), ckpt_path="last")
    assert rest.current_round == 4


def test_a_callbacks_error_is_the_runs_whatever_its_hook(fit: Fit) -> None:
    for hook in ("on_before_zero_grad", "on_after_backward", "on_train_batch_start"):

        def broken(*_: Any) -> None:
            raise AttributeError("'FederatedTrainer' object has no attribute 'optimizers'")

        with pytest.raises(AttributeError, match="no attribute 'optimizers'"):
            fit(LambdaCallback(**{hook: broken}))


# ---------------------------------------------------------------- what there is instead


def test_the_clients_learning_rates_are_those_of_their_warmup(
    toy_model: Path, tmp_path: Path, execution: Callable[[], Any]
) -> None:
    module = toy_module(toy_model)
    module.warmup_steps = 4
    trainer = toy_trainer(
        tmp_path,
        max_rounds=2,
        local_steps=2,
        clients_per_round=2,
        callbacks=ClientLearningRate(),
        sampler=FixedOrderSampler([0, 1]),
        execution=execution(),
    )
    trainer.fit(module, small_data())
    means = [row["clients/lr/mean"] for row in trainer.federation.history]
    assert means == pytest.approx([1e-2 * (1 + 2) / 2 / 4, 1e-2 * (3 + 4) / 2 / 4])
    assert trainer.federation.history[0]["clients/lr/max"] == pytest.approx(means[0])


def test_groups_of_parameters_have_rates_of_their_own(toy_model: Path, tmp_path: Path) -> None:
    module = toy_module(toy_model)

    def two_groups(params: Any) -> torch.optim.Optimizer:
        first, *rest = params
        return torch.optim.SGD(
            [{"params": [first], "lr": 0.5, "name": "head"}, {"params": rest}], lr=0.25
        )

    module.make_optimizer = two_groups
    trainer = toy_trainer(tmp_path, max_rounds=1, callbacks=ClientLearningRate())
    trainer.fit(module, small_data())
    row = trainer.federation.history[0]
    assert (row["clients/lr/head/mean"], row["clients/lr/1/mean"]) == (0.5, 0.25)


def test_peak_memory_is_that_of_the_process(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, max_rounds=2, callbacks=PeakMemory())
    trainer.fit(toy_module(toy_model), small_data())
    peaks = [row["memory/process"] for row in trainer.federation.history]
    statm = Path("/proc/self/statm")
    assert peaks[0] <= peaks[1]
    if statm.exists():
        resident = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert peaks[1] >= 0.5 * resident


# ---------------------------------------------------------------- loggers


def _csv(folder: Path) -> None:
    logger = CSVLogger(str(folder), flush_logs_every_n_steps=100)

    def check() -> None:
        with (Path(logger.log_dir) / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["val/loss"]]
        assert [row["step"] for row in rows] == ["1", "2"]

    _run(folder, logger, check)


def _tensorboard(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(str(folder))

    def check() -> None:
        events = EventAccumulator(logger.log_dir)
        events.Reload()
        assert [event.step for event in events.Scalars("val/loss")] == [1, 2]

    _run(folder, logger, check)


def _wandb(folder: Path) -> None:
    logger = WandbLogger(save_dir=str(folder), offline=True)
    _run(folder, logger, lambda: None)
    assert any(folder.glob("wandb/offline-run-*/*.wandb"))


def _mlflow(folder: Path) -> None:
    logger = MLFlowLogger(tracking_uri=f"file:{folder / 'mlruns'}")
    _run(folder, logger, lambda: None)
    history = logger.experiment.get_metric_history(logger.run_id, "val/loss")
    assert [point.step for point in history] == [1, 2]


def _comet(folder: Path) -> None:
    logger = CometLogger(online=False, offline_directory=str(folder))
    _run(folder, logger, lambda: None)


def _litlogger(folder: Path) -> None:
    # its first metric asks its service for an account
    LitLogger(root_dir=str(folder), name="run")


_MODEL: list[Path] = []


def _run(folder: Path, logger: Any, check: Callable[[], None]) -> None:
    """A run of two rounds; what a killed one would leave is looked at before the logger is closed."""

    class BeforeTheEnd(FederatedCallback):
        def on_fit_end(self, trainer: Any, module: Any) -> None:
            check()

    trainer = toy_trainer(
        folder / "run",
        max_rounds=2,
        clients_per_round=1,
        loggers=logger,
        test_at_end=False,
        callbacks=BeforeTheEnd(),
    )
    trainer.fit(toy_module(_MODEL[0]), small_data())
    assert trainer.current_round == 2


LOGGERS: dict[str, tuple[str | None, Callable[[Path], None]]] = {
    "CSVLogger": (None, _csv),
    "TensorBoardLogger": (None, _tensorboard),
    "WandbLogger": ("wandb", _wandb),
    "MLFlowLogger": ("mlflow", _mlflow),
    "CometLogger": ("comet_ml", _comet),
    "LitLogger": ("litlogger", _litlogger),
}


def test_all_of_lightnings_loggers_are_decided() -> None:
    assert set(lightning_loggers.__all__) == {"Logger", *LOGGERS}


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_gets_every_round(
    name: str, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    package, check = LOGGERS[name]
    if package is not None:
        pytest.importorskip(package)
    _MODEL[:] = [toy_model]
    check(tmp_path)


def test_a_logger_that_waits_for_lightnings_checkpoints_is_refused(tmp_path: Path) -> None:
    class Uploads(CSVLogger):
        _log_model = "all"

    with pytest.raises(ValueError, match="Uploads is expected to have `log_model` false"):
        toy_trainer(tmp_path, loggers=[Uploads(str(tmp_path))])
    with pytest.raises(
        TypeError, match=r"`trainer\.loggers` is expected to be an instance of Logger, but"
    ):
        toy_trainer(tmp_path, loggers=[CSVLogger])
