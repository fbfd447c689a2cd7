import json
from pathlib import Path

import pytest

from lit_fed.cli import main
from lit_fed.study.quickstart import accuracy_table
from lit_fed.study.run import Run


def finished(root: Path, name: str, seed: int, metrics: dict[str, float]) -> Run:
    folder = root / name / f"seed_{seed}"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"interrupted": False, "metrics": metrics}))
    return Run(Path(f"{name}.yaml"), seed, folder)


def test_the_clients_mean_stands_where_there_is_no_global_model(tmp_path: Path) -> None:
    alone = {"clients/test/accuracy/mean": 0.5, "clients/test/accuracy/min": 0.25}
    runs = [
        finished(tmp_path, "local_only", 0, alone),
        finished(tmp_path, "local_only", 1, {name: 2 * v for name, v in alone.items()}),
        finished(tmp_path, "lora_fedavg", 0, {"test/accuracy": 0.75}),
        finished(tmp_path, "centralized", 0, {"test/accuracy": 0.875}),
    ]
    columns = [list(column.cells) for column in accuracy_table(runs).columns]
    assert columns == [
        ["each client alone", "federated", "all data in one place"],
        ["0.750 ± 0.354", "0.750", "0.875"],
        ["0.375 ± 0.177", "–", "–"],
        ["–", "–", "–"],
    ]


@pytest.mark.slow
def test_it_runs_and_runs_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quickstart", "--seeds=1", f"--root={tmp_path / 'first hour'}", "--"]
    small = ["--trainer.max_rounds=1", "--trainer.limit_train_batches=1"]
    small += ["--trainer.limit_test_batches=1", "--trainer.limit_val_batches=1"]
    main([*words, *small])
    out = capsys.readouterr().out
    for row in ("each client alone", "federated", "all data in one place"):
        assert row in out
    # no terminal: lines instead of a bar
    assert f"{tmp_path / 'first hour' / 'centralized' / 'seed_0'} has ended\n" in out
    for line in ("TensorBoard", "checkpoint", "adapter", "next"):
        assert f"\n{line} " in out
    federation = tmp_path / "first hour" / "lora_fedavg" / "seed_0"
    assert (federation / "adapter" / "adapter_config.json").is_file()
    log = federation / "log.txt"
    before = log.stat().st_mtime_ns
    main([*words, *small])
    assert log.stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match="is expected to hold no other study's runs"):
        main([*words, "--trainer.max_rounds=2"])


def test_seeds_are_counted_from_one() -> None:
    with pytest.raises(SystemExit, match="--seeds is expected to be at least 1, but got 0"):
        main(["quickstart", "--seeds=0"])
