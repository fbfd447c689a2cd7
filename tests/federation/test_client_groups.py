"""Figures of groups of clients beside those of all, from the clients' own rows in files."""

import csv
import statistics
from pathlib import Path

import pytest

from lit_fed import FedAvg
from lit_fed.aggregation import LocalOnly
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer

GROUPS = {"weak": ["client-1"], "strong": ["client-0", "client-3"]}
MEMBERS = {**GROUPS, "others": ["client-2"]}


def alone(model: Path) -> FedAvg:
    return FedAvg(toy_backbone(model), aggregation=LocalOnly(), optimizer=fast_adamw)


def test_groups_are_reported_beside_all(toy_model: Path, tmp_path: Path) -> None:
    module = alone(toy_model)
    data = toy_data(client_groups=GROUPS)
    trainer = toy_trainer(tmp_path / "run", max_rounds=2, clients_per_round=1.0)
    trainer.fit(module, data)
    (tested,) = trainer.test(module, data)
    with (tmp_path / "run" / "clients.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["round"] == "2"]
    last = trainer.federation.history[-1]
    for group, members in MEMBERS.items():
        own = [float(row["train/loss"]) for row in rows if row["client"] in members]
        assert len(own) == len(members)
        found = {
            part: last[f"clients/{group}/train/loss/{part}"] for part in ("mean", "min", "max")
        }
        expected = {"mean": statistics.fmean(own), "min": min(own), "max": max(own)}
        assert found == pytest.approx(expected, rel=1e-6)
        assert f"clients/{group}/test/accuracy/mean" in tested
    everyone = [float(row["train/loss"]) for row in rows]
    assert last["clients/train/loss/mean"] == pytest.approx(statistics.fmean(everyone), rel=1e-6)
    weighed = sum(
        len(members) * tested[f"clients/{group}/test/accuracy/mean"]
        for group, members in MEMBERS.items()
    )
    assert tested["clients/test/accuracy/mean"] == pytest.approx(weighed / 4)
    # a group is no part of what trains: the same run without groups has the same figures
    plain = toy_trainer(tmp_path / "plain", max_rounds=2, clients_per_round=1.0)
    plain.fit(alone(toy_model), toy_data())
    same = {k: v for k, v in last.items() if k in plain.federation.history[-1]}
    for name, value in plain.federation.history[-1].items():
        if not name.startswith(("time/", "memory/")):
            assert same[name] == value, name
    assert not any("/weak/" in name for name in plain.federation.history[-1])
