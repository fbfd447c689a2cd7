"""Small runs that are killed where they are told to be: ``crash_runs.py <configuration> <folder>``, jobs on its input.

The process imports everything once and forks for every job, so that a job takes as long as its rounds. A job is a
line of JSON: ``run``, the folder of the run; and where the process is to be killed: ``at``, a number of the changes
that it makes to files in the run's folder (``tears``: the file that is being flushed is half written by then), or
``after`` so many seconds. Of two processes ``rank`` is the one that is killed. The answer is a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger

from lit_fed import DDG, DDGMSI, MSI, FedAvg, FederatedTrainer
from lit_fed.aggregation import FedAvgM
from lit_fed.callbacks import RoundCheckpoint, RoundProfiler, TaskEvaluation
from lit_fed.cli import lightning_cli
from lit_fed.federation import DistributedClients, VectorizedClients
from tests.federation.preparation_cases import Prepares
from tests.federation.task_sequence import task_data
from tests.federation.toy import (
    fast_adamw,
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_rows,
    toy_trainer,
)

PATIENCE = 120.0
"""Seconds after which a run that has not ended is blocked."""


def trainer_of(run: Path, **settings: Any) -> FederatedTrainer:
    return toy_trainer(run, **{"num_sanity_val_steps": 0, "limit_train_batches": 1} | settings)


def data_of(**settings: Any) -> Any:
    small = {"train": toy_rows(48, 0), "validation": toy_rows(16, 1), "test": toy_rows(16, 2)}
    return toy_data(**small | {"num_clients": 3, "public": toy_rows(8, 3)} | settings)


def fit(trainer: FederatedTrainer, module: FedAvg, data: Any = None) -> None:
    trainer.fit(module, data_of() if data is None else data, "last")


def settings_of(model: Path) -> dict[str, Any]:
    return {"backbone": toy_backbone(model), "optimizer": fast_adamw, "warmup_steps": 0}


def default_writers(model: Path, run: Path) -> None:
    """All default callbacks and TensorBoard."""
    fit(trainer_of(run, loggers=True), FedAvg(**settings_of(model)))


def other_writers(model: Path, run: Path) -> None:
    """Every option that writes something else: the best checkpoint, profiles, CSV, states in files."""
    callbacks = [
        RoundCheckpoint(every_n_rounds=2, keep_last=1, monitor="val/accuracy"),
        RoundProfiler(round=2),
    ]
    trainer = trainer_of(
        run,
        callbacks=callbacks,
        loggers=CSVLogger(str(run), name="", version="csv"),
        keep_optimizer_state=True,
        client_state_mb=0.0,
        validate_clients=True,
    )
    fit(trainer, FedAvg(aggregation=FedAvgM(), **settings_of(model)))


def tasks(model: Path, run: Path) -> None:
    """A sequence of tasks with its matrix, and a best loss."""
    callbacks = [TaskEvaluation(), RoundCheckpoint(monitor="val/loss", mode="min")]
    trainer = trainer_of(run, rounds_per_task=1, callbacks=callbacks, loggers=True)
    fit(trainer, FedAvg(**settings_of(model)), task_data())


def prepared(model: Path, run: Path) -> None:
    """Clients prepare before the first round."""
    module = Prepares(**settings_of(model))
    fit(trainer_of(run, max_rounds=2), module, data_of(num_clients=4, train=toy_rows(60, 0)))


def ddg(model: Path, run: Path) -> None:
    fit(trainer_of(run, max_rounds=2), DDG(lambda_aggregate=0.5, **settings_of(model)))


def msi(model: Path, run: Path) -> None:
    fit(trainer_of(run, max_rounds=2), MSI(**settings_of(model)))


def ddg_msi(model: Path, run: Path) -> None:
    fit(trainer_of(run, max_rounds=2), DDGMSI(**settings_of(model)))


def vectorized(model: Path, run: Path) -> None:
    execution = VectorizedClients(clients_at_once=2)
    trainer = trainer_of(run, max_rounds=2, execution=execution, keep_optimizer_state=True)
    fit(trainer, FedAvg(**settings_of(model)))


def two_processes(model: Path, run: Path) -> None:
    trainer = trainer_of(
        run,
        max_rounds=2,
        # a process whose launcher is killed before they have met waits so long: less than the patience of this campaign
        execution=DistributedClients(timeout=30, start_timeout=30),
        devices=2,
        keep_optimizer_state=True,
        loggers=True,
    )
    fit(trainer, FedAvg(**settings_of(model)))


CASES: dict[str, Callable[[Path, Path], None]] = {
    one.__name__: one
    for one in (
        default_writers,
        other_writers,
        tasks,
        prepared,
        ddg,
        msi,
        ddg_msi,
        vectorized,
        two_processes,
    )
}


def configured(config: str) -> Callable[[Path, Path], None]:
    """A run by the command line."""

    def run_of(model: Path, run: Path) -> None:
        words = ["fit", "--config", config, "--ckpt_path", "last"]
        words += [f"--trainer.default_root_dir={run}", "--trainer.enable_progress_bar=false"]
        lightning_cli.run(words)

    return run_of


# ---------------------------------------------------------------- where it is killed


class Changes:
    """Counts what a process does to files in a folder, and kills it at one of these changes."""

    def __init__(self, folder: Path, at: int | None, tears: bool) -> None:
        self._folder = str(folder)
        self._at, self._tears = at, tears
        self._lock = threading.Lock()
        self.count = 0
        flush = os.fsync

        def fsync(descriptor: int) -> None:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            self._one(path, torn=path)
            flush(descriptor)

        os.fsync = fsync  # type: ignore[assignment]
        sys.addaudithook(self._audited)

    def _audited(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            if isinstance(path, str | os.PathLike) and flags & (os.O_WRONLY | os.O_RDWR):
                self._one(os.fspath(path))
        elif event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove"):
            # where a folder is deleted, names are relative to it
            path = os.fsdecode(given[0]) if isinstance(given[0], str | bytes | os.PathLike) else ""
            self._one(path if os.path.isabs(path) else self._folder)  # noqa: PTH117 (a text)

    def _one(self, path: str | bytes, torn: str | None = None) -> None:
        if not os.fsdecode(path).startswith(self._folder):
            return
        with self._lock:
            self.count += 1
            if self.count != self._at:
                return
            if self._tears and torn is not None and Path(torn).is_file():
                os.truncate(torn, Path(torn).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


def child(case: Callable[[Path, Path], None], model: Path, job: dict[str, Any], rank: int) -> int:
    """A forked process runs the job; see the parent for what becomes of it."""
    run = Path(job["run"])
    log = os.open(f"{run}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    told = rank == job.get("rank", 0)
    changes = Changes(run, job.get("at") if told else None, job.get("tears", False))
    try:
        case(model, run)
    except SystemExit as end:
        if end.code:
            print(end.code, file=sys.stderr)
            return 1
    except BaseException:
        traceback.print_exc()
        return 1
    if told:
        Path(f"{run}.changes").write_text(str(changes.count))
    return 0


def fork(case: Callable[[Path, Path], None], model: Path, job: dict[str, Any], rank: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        status = child(case, model, job, rank)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve(case: Callable[[Path, Path], None], model: Path, processes: int) -> None:
    for line in sys.stdin:
        job = json.loads(line)
        started = time.monotonic()
        if processes > 1:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = str(free.getsockname()[1])
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
        children = {}
        for rank in range(processes):
            if processes > 1:
                os.environ["LOCAL_RANK"] = str(rank)
            children[fork(case, model, job, rank)] = rank
        victim = next(pid for pid, rank in children.items() if rank == job.get("rank", 0))
        ends: dict[int, int] = {}
        while len(ends) < len(children) and time.monotonic() - started < PATIENCE:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in children:
                ends[children[pid]] = os.waitstatus_to_exitcode(status)
            after = job.get("after")
            if after is not None and time.monotonic() - started > after:
                if children[victim] not in ends:
                    os.kill(victim, signal.SIGKILL)
                del job["after"]
            if not pid:
                time.sleep(0.01)
        blocked = [rank for rank in children.values() if rank not in ends]
        for pid, rank in children.items():
            if rank in blocked:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        answer = {"ends": ends, "blocked": blocked, "seconds": time.monotonic() - started}
        print(json.dumps(answer), flush=True)


def main() -> None:
    name, folder = sys.argv[1:]
    model = save_toy_model(Path(folder) / "model")
    case = CASES[name] if name in CASES else configured(name)
    serve(case, model, 2 if name == "two_processes" else 1)


if __name__ == "__main__":
    main()
