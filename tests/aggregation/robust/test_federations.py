"""Federations with robust rules: every execution, resumed, and with what is learnt beside the weights."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from lit_fed import DDG, FedAvg
from lit_fed.aggregation import (
    FLAME,
    Aggregation,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    MultiKrum,
    NormClipping,
    TrimmedMean,
)
from lit_fed.aggregation.robust import Coordinates, Products
from lit_fed.attacks import BoostedUpdate, RandomUpdate, SignFlip
from lit_fed.backbones import BottleneckConfig, SequenceClassifier
from lit_fed.federation import DistributedClients, VectorizedClients
from lit_fed.methods.ddg import PublicConsensus
from tests.federation.execution.launched import last_state, python_m
from tests.federation.toy import (
    fast_adamw,
    toy_backbone,
    toy_data,
    toy_trainer,
    without_times,
)
from tests.slow import slow_but

RULES: dict[str, Callable[[], Aggregation]] = {
    "CoordinateMedian": CoordinateMedian,
    "TrimmedMean": lambda: TrimmedMean(0.25),
    "Krum": lambda: Krum(0),
    "MultiKrum": lambda: MultiKrum(0, 3),
    "GeometricMedian": GeometricMedian,
    "NormClipping with noise": lambda: NormClipping(
        0.1, noise_multiplier=0.5, geometry=Coordinates()
    ),
    "NormClipping with noise on products": lambda: NormClipping(0.1, noise_multiplier=0.5),
    "FLAME": FLAME,
}
IN_TWO_PROCESSES = ("MultiKrum", "NormClipping with noise", "FLAME")


def run(
    model: Path, folder: Path, rule: Callable[[], Aggregation], rounds: int = 2, **more: Any
) -> Any:
    ckpt_path, precise = more.pop("ckpt_path", None), more.pop("precise", False)
    given = {"max_rounds": rounds, "clients_per_round": 4, "local_steps": 2, **more}
    if precise:
        given["precision"] = "64-true"
    trainer = toy_trainer(folder, **given)
    module = FedAvg(toy_backbone(model), rule(), optimizer=fast_adamw)
    trainer.fit(module, toy_data(), ckpt_path)
    return trainer


@pytest.mark.parametrize("rule", slow_but("NormClipping with noise on products", "FLAME", of=RULES))
def test_a_federation_resumes_bit_for_bit(rule: str, toy_model: Path, tmp_path: Path) -> None:
    made = RULES[rule]
    whole = run(toy_model, tmp_path / "whole", made).federation
    run(toy_model, tmp_path / "parts", made, rounds=1)
    resumed = run(toy_model, tmp_path / "parts", made, ckpt_path="last").federation
    assert resumed.broadcast == whole.broadcast
    assert resumed.server == whole.server
    assert without_times(resumed.history) == without_times(whole.history)
    assert any(name.startswith("server/") for name in whole.history[-1])


@pytest.mark.parametrize(
    "rule", slow_but("TrimmedMean", "NormClipping with noise on products", of=RULES)
)
def test_vectorized_clients_are_combined_as_single_ones(
    rule: str, toy_model: Path, tmp_path: Path
) -> None:
    made = RULES[rule]
    single = run(toy_model, tmp_path / "single", made, precise=True).federation
    together = run(
        toy_model, tmp_path / "together", made, precise=True, execution=VectorizedClients(4)
    ).federation
    assert together.ledger == single.ledger
    for name, tensor in single.broadcast.tensors.items():
        torch.testing.assert_close(together.broadcast.tensors[name], tensor, rtol=0, atol=1e-8)


@pytest.mark.slow
def test_two_processes_are_one(toy_model: Path, tmp_path: Path) -> None:
    done = python_m("tests.aggregation.robust.test_federations", str(toy_model), str(tmp_path))
    assert done.returncode == 0, done.stderr
    for name in IN_TWO_PROCESSES:
        run(toy_model, tmp_path / "one" / name, RULES[name])
        one, two = (last_state(tmp_path / count / name) for count in ("one", "two"))
        assert without_times(one.history) == without_times(two.history)
        assert (one.broadcast, one.server, one.ledger) == (two.broadcast, two.server, two.ledger)


def test_ddg_mixes_the_predictions_of_those_that_count(toy_model: Path, tmp_path: Path) -> None:
    rule = Krum(0)
    trainer = toy_trainer(tmp_path, max_rounds=1, clients_per_round=4, local_steps=2)
    seen: list[Any] = []
    module = DDG(toy_backbone(toy_model), rule, consensus=PublicConsensus(), optimizer=fast_adamw)
    aggregate = module.aggregate

    def keep(updates: Any) -> Any:
        seen.extend(updates)
        return aggregate(updates)

    module.aggregate = keep  # type: ignore[method-assign]
    trainer.fit(module, toy_data())
    weights = rule.weights(seen)
    assert sorted(weights) == [0.0, 0.0, 0.0, 1.0]
    (chosen,) = [u for u, w in zip(seen, weights, strict=True) if w]
    consensus = trainer.federation.broadcast.parts["consensus"]
    sent = chosen.payload.parts["consensus"]
    assert consensus.tensors.keys() & sent.tensors.keys()
    for name in consensus.tensors.keys() & sent.tensors.keys():
        torch.testing.assert_close(
            consensus.tensors[name].double(), sent.tensors[name].double(), rtol=0, atol=2e-3
        )


# ---------------------------------------------------------------- what it acts on


def backbone(model: Path, peft: Any) -> SequenceClassifier:
    return SequenceClassifier(str(model), peft=peft)


def test_over_lora_products_are_meant_and_coordinates_warned_of(
    toy_model: Path, recwarn: pytest.WarningsRecorder
) -> None:
    lora = backbone(toy_model, LoraConfig(r=2))
    by_default = Krum(0)
    by_default.setup(lora)
    assert isinstance(by_default._acting, Products)
    assert not [w for w in recwarn if "robust" in str(w.message)]
    for peft in (BottleneckConfig(width=4), None):
        rule = Krum(0)
        rule.setup(backbone(toy_model, peft))
        assert isinstance(rule._acting, Coordinates)
    assert not [w for w in recwarn if "robust" in str(w.message)]
    with pytest.warns(UserWarning, match="the product of robust factors is not the robust product"):
        Krum(0, geometry=Coordinates()).setup(lora)


def test_what_is_no_plain_lora_is_refused_by_name(toy_model: Path) -> None:
    dora = backbone(toy_model, LoraConfig(r=2, use_dora=True))
    with pytest.raises(
        ValueError, match=r"Krum expects .*lora_magnitude_vector.*Coordinates takes any"
    ):
        Krum(0).setup(dora)
    Krum(0, geometry=Coordinates()).setup(dora)
    with pytest.raises(ValueError, match="it has no factors A and B"):
        Krum(0, geometry=Products()).setup(backbone(toy_model, BottleneckConfig(width=4)))
    with pytest.raises(ValueError, match=r"scaled by a number above 0, but that of .* is 0"):
        Krum(0).setup(backbone(toy_model, LoraConfig(r=2, lora_alpha=0)))


def test_too_few_clients_are_refused_before_training(toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"Krum combines at least 5 clients, but by `trainer.clients_per_round` 4 of 4 take part in a round",
    ):
        run(toy_model, tmp_path, lambda: Krum(1), clients_per_round=1.0)


# ---------------------------------------------------------------- attacks


def test_attacks_are_withstood_and_recorded(toy_model: Path, tmp_path: Path) -> None:
    attacks: list[Any] = [BoostedUpdate(1e4, count=1, seed=3)]
    given: dict[str, Any] = {"max_update_norm_ratio": None, "attachments": attacks, "rounds": 1}
    trainer = run(toy_model, tmp_path / "krum", lambda: MultiKrum(0, 3), **given)
    (name,) = attacks[0].clients
    assert trainer.federation.history[0]["server/multi_krum/left_out"] == 1
    assert trainer.federation.history[0]["val/accuracy"] > 0.4
    summary = json.loads((tmp_path / "krum" / "summary.json").read_text())
    assert summary["attachments"] == [
        {
            "class": "BoostedUpdate",
            "factor": 1e4,
            "clients": [name],
            "count": 1,
            "seed": 3,
            "until": None,
        }
    ]
    clean = run(toy_model, tmp_path / "clean", lambda: MultiKrum(0, 3), rounds=1)
    assert json.loads((tmp_path / "clean" / "summary.json").read_text())["attachments"] == []
    # by default what is so long is left out before any rule
    assert clean.max_update_norm_ratio == 100
    given.pop("max_update_norm_ratio")
    trainer = run(toy_model, tmp_path / "ratio", lambda: MultiKrum(0), **given)
    assert trainer.federation.failures == {name: 1}
    assert trainer.federation.history[0]["server/multi_krum/selected"] == 3


@pytest.mark.parametrize("execution", [None, VectorizedClients(4)], ids=["single", "vectorized"])
def test_a_random_update_is_the_same_in_every_execution(
    execution: Any, toy_model: Path, tmp_path: Path
) -> None:
    attacks = [RandomUpdate(2.0, count=2), SignFlip(count=0.25, seed=1)]
    given: dict[str, Any] = {"precise": True, "rounds": 1}
    expected = run(toy_model, tmp_path / "one", CoordinateMedian, attachments=attacks, **given)
    found = run(
        toy_model,
        tmp_path / "two",
        CoordinateMedian,
        attachments=attacks,
        execution=execution,
        **given,
    )
    for name, tensor in expected.federation.broadcast.tensors.items():
        torch.testing.assert_close(
            found.federation.broadcast.tensors[name], tensor, rtol=0, atol=1e-8
        )


def main() -> None:
    model, root = map(Path, sys.argv[1:])
    for name in IN_TWO_PROCESSES:
        run(model, root / "two" / name, RULES[name], execution=DistributedClients(), devices=2)


if __name__ == "__main__":
    main()
