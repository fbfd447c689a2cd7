"""FedAdagrad, FedAdam and FedYogi beside NumPy, by hand, and beside what public implementations do instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_fed import DDG, FedAvg, FederatedModule, Payload
from lit_fed.aggregation import FedAdagrad, FedAdam, FedAvgM, FedYogi, ServerOptimizer
from lit_fed.federation import VectorizedClients
from lit_fed.update import Update
from tests.aggregation.test_rule_that_freezes import factor
from tests.federation.execution.agreement import assert_close
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer, without_times
from tests.slow import slow_but

SIZES = np.array([10.0, 30.0, 60.0])
LR, TAU, BETA_1, BETA_2 = 0.3, 0.5, 0.8, 0.7
Array = Any


def adagrad(v: Array, square: Array) -> Array:
    return v + square


def adam(v: Array, square: Array) -> Array:
    return BETA_2 * v + (1 - BETA_2) * square


def yogi(v: Array, square: Array) -> Array:
    return v - (1 - BETA_2) * square * np.sign(v - square)


RULES: dict[str, tuple[Callable[[], ServerOptimizer], Callable[[Array, Array], Array]]] = {
    "adagrad": (lambda: FedAdagrad(LR, TAU, BETA_1), adagrad),
    "adam": (lambda: FedAdam(LR, TAU, BETA_1, BETA_2), adam),
    "yogi": (lambda: FedYogi(LR, TAU, BETA_1, BETA_2), yogi),
}
OPTIMIZERS = [FedAvgM, FedAdagrad, FedAdam, FedYogi]


def uploads(values: Array, dtype: torch.dtype = torch.float64) -> list[Update]:
    return [
        Update(f"c{k}", Payload({"w": torch.tensor(value, dtype=dtype)}), int(size))
        for k, (value, size) in enumerate(zip(values, SIZES, strict=True))
    ]


def reference(
    rounds: Array, start: Array, second: Callable[[Array, Array], Array], **wrong: bool
) -> Array:
    """Algorithm 2 of Reddi et al. on NumPy arrays, or what public implementations make of it."""
    theta, m = start.copy(), np.zeros_like(start)
    v = np.zeros_like(start) if wrong.get("flower") else np.full_like(start, TAU**2)
    weights = None if wrong.get("unweighted") else SIZES
    for number, values in enumerate(rounds, start=1):
        delta = np.average(values, axis=0, weights=weights) - theta
        m = BETA_1 * m + (1 - BETA_1) * delta
        if wrong.get("openfedllm") and number == 1:
            m = delta
        v = second(v, m**2 if wrong.get("openfedllm") else delta**2)
        lr = LR
        if wrong.get("corrected"):
            lr = LR * math.sqrt(1 - BETA_2**number) / (1 - BETA_1**number)
        theta = theta + lr * m / (np.sqrt(v) + TAU)
    return theta


@pytest.fixture
def drawn() -> tuple[Array, Array]:
    draw = np.random.default_rng(0)
    return draw.normal(size=(4, 3, 5, 2)), draw.normal(size=(5, 2))


def run(rule: ServerOptimizer, rounds: Array, start: Array) -> Array:
    broadcast = Payload({"w": torch.tensor(start)})
    for values in rounds:
        broadcast = rule(uploads(values), broadcast)
    return broadcast.tensors["w"].numpy()


@pytest.mark.parametrize("name", RULES)
def test_four_rounds_agree_with_numpy(name: str, drawn: tuple[Array, Array]) -> None:
    rule, second = RULES[name]
    np.testing.assert_allclose(run(rule(), *drawn), reference(*drawn, second), rtol=1e-10)


@pytest.mark.parametrize(
    "wrong",
    [{"flower": True}, {"corrected": True}, {"openfedllm": True}, {"unweighted": True}],
    ids=str,
)
def test_it_is_not_what_public_implementations_do(
    wrong: dict[str, bool], drawn: tuple[Array, Array]
) -> None:
    ours = run(FedAdam(LR, TAU, BETA_1, BETA_2), *drawn)
    theirs = reference(*drawn, adam, **wrong)
    assert np.abs(ours - theirs).max() > 0.01 * np.abs(ours).max()


def test_two_rounds_of_fed_adam_by_hand() -> None:
    rule = FedAdam(lr=0.5, tau=2.0, beta1=0.5, beta2=0.75)
    # v0 = 4; the mean of 8 (twice) and 2 is 6, so that Δ = 6: m = 3, v = 3 + 9 = 12
    sent = [
        Update("a", Payload({"w": torch.tensor([8.0])}), 2),
        Update("b", Payload({"w": torch.tensor([2.0])}), 1),
    ]
    first = rule(sent, Payload({"w": torch.tensor([0.0])}))
    assert first.tensors["w"].item() == pytest.approx(0.5 * 3 / (math.sqrt(12) + 2))
    # Δ = -2: m = 1.5 - 1 = 0.5, v = 9 + 1 = 10
    before = Payload({"w": torch.tensor([1.0])})
    second = rule([Update("a", Payload({"w": torch.tensor([-1.0])}), 1)], before)
    assert second.tensors["w"].item() == pytest.approx(1 + 0.5 * 0.5 / (math.sqrt(10) + 2))
    assert {k: t.item() for k, t in rule.state().tensors.items()} == {"m/w": 0.5, "v/w": 10.0}


def test_yogi_forgets_more_slowly_than_adam_what_was_large() -> None:
    def v_after(rule: ServerOptimizer) -> float:
        for value in (10.0, 0.1):
            sent = [Update("a", Payload({"w": torch.tensor([value])}), 1)]
            rule(sent, Payload({"w": torch.tensor([0.0])}))
        return rule.state().tensors["v/w"].item()

    assert v_after(FedAdam(beta2=0.9)) == pytest.approx(9.0, rel=1e-3)
    assert v_after(FedYogi(beta2=0.9)) == pytest.approx(10.0, rel=1e-3)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_has_no_mean_passes_and_moments_are_wide(kind: type[ServerOptimizer]) -> None:
    tensors = {"ids": torch.tensor([4]), "w": torch.ones(1, dtype=torch.bfloat16)}
    rule, sent = kind(), [Update("a", Payload(tensors, {"s": ["x"]}), 1)]
    old = {"ids": torch.tensor([1]), "w": torch.full((1,), 2.0, dtype=torch.bfloat16)}
    out = rule(sent, Payload(old))
    assert torch.equal(out.tensors["ids"], tensors["ids"])
    assert out.strings == {"s": ("x",)}
    assert out.tensors["w"].dtype == torch.bfloat16
    assert {t.dtype for t in rule.state().tensors.values()} == {torch.float32}
    assert not any("ids" in name for name in rule.state().tensors)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_late_tensor_starts_as_in_the_first_round(
    kind: Callable[[], ServerOptimizer], drawn: tuple[Array, Array]
) -> None:
    (first, second, *_), start = drawn
    alone = kind()(uploads(second), Payload({"w": torch.tensor(start)}))
    rule = kind()
    early = Payload({"early": torch.tensor(start)})
    rule([Update("a", Payload({"early": torch.tensor(first[0])}), 1)], early)
    both = [
        Update(u.client_id, Payload({**u.payload.tensors, **early.tensors}), u.num_samples)
        for u in uploads(second)
    ]
    late = rule(both, Payload({"w": torch.tensor(start), **early.tensors}))
    assert torch.equal(late.tensors["w"], alone.tensors["w"])


@pytest.mark.parametrize("kind", [FedAdagrad, FedAdam, FedYogi])
def test_bad_settings_are_named(kind: Any) -> None:
    for setting, value, said in (
        ("lr", 0.0, "finite and above 0, but got 0.0"),
        ("tau", 0.0, "finite and above 0, but got 0.0"),
        ("tau", math.nan, "finite and above 0, but got nan"),
        ("beta1", 1.0, "at least 0 and below 1, but got 1.0"),
    ):
        with pytest.raises(
            ValueError, match=rf"`model.aggregation.{setting}` is expected to be {said}"
        ):
            kind(**{setting: value})
    if kind is not FedAdagrad:
        with pytest.raises(ValueError, match=r"`model.aggregation.beta2` .* below 1, but got -0.1"):
            kind(beta2=-0.1)
    with pytest.raises(
        ValueError, match=rf"{kind.__name__} is expected to hold m and v .* holds 'w'"
    ):
        kind().load_state(Payload({"w": torch.ones(1)}))
    rule = kind()
    rule.load_state(Payload({"m/w": torch.ones(3), "v/w": torch.ones(3)}))
    with pytest.raises(
        ValueError, match=r"the server's state tensor 'm/w' .* \[1\], but got \[3\]"
    ):
        rule([Update("a", Payload({"w": torch.ones(1)}), 1)], Payload({"w": torch.zeros(1)}))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_another_rules_state_is_refused(kind: type[ServerOptimizer]) -> None:
    """Also of a rule whose moments have the same names, such as the sum of squares that FedAdagrad has for v."""
    before, sent = Payload({"w": torch.zeros(1)}), [Update("a", Payload({"w": torch.ones(1)}), 1)]
    rule = kind()
    rule(sent, before)
    state = Payload.from_bytes(rule.state().to_bytes())
    for other in OPTIMIZERS:
        if other is kind:
            other().load_state(state)
            continue
        with pytest.raises(
            ValueError, match=rf"{other.__name__} is expected .* is that of {kind.__name__}"
        ):
            other().load_state(state)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_state_that_does_not_say_whose_it_is_goes_by_its_names(
    kind: type[ServerOptimizer],
) -> None:
    """As states of earlier versions are."""
    before, sent = Payload({"w": torch.zeros(1)}), [Update("a", Payload({"w": torch.ones(1)}), 1)]
    rule, resumed = kind(), kind()
    rule(sent, before)
    resumed.load_state(Payload(rule.state().tensors))
    assert resumed(sent, before) == rule(sent, before)
    assert resumed.state() == rule.state()
    other, name = (FedAdam, "w") if kind is FedAvgM else (FedAvgM, "m/w")
    with pytest.raises(ValueError, match=rf"{other.__name__} .* holds {name!r}, which is another"):
        other().load_state(Payload(rule.state().tensors))


# ---------------------------------------------------------------- in a federation


def federation(
    model: Path,
    folder: Path,
    rule: ServerOptimizer,
    method: type[FederatedModule] = FedAvg,
    ckpt_path: str | None = None,
    **settings: Any,
) -> Any:
    trainer = toy_trainer(folder, **{"max_rounds": 4, "local_steps": 2} | settings)
    module = method(toy_backbone(model), rule, optimizer=fast_adamw)
    trainer.fit(module, toy_data(), ckpt_path)
    return trainer.federation


@pytest.mark.parametrize("kind", slow_but(FedAdam, FedYogi, of=[FedAdagrad, FedAdam, FedYogi]))
def test_a_federation_resumes_bit_for_bit(
    kind: Callable[[], ServerOptimizer], toy_model: Path, tmp_path: Path
) -> None:
    method = DDG if kind is FedYogi else FedAvg
    whole = federation(toy_model, tmp_path / "whole", kind(), method, max_rounds=2)
    federation(toy_model, tmp_path / "parts", kind(), method, max_rounds=1)
    resumed = federation(toy_model, tmp_path / "parts", kind(), method, "last", max_rounds=2)
    assert resumed.broadcast == whole.broadcast
    assert resumed.server == whole.server
    assert without_times(resumed.history) == without_times(whole.history)
    names = whole.broadcast.tensors
    assert whole.server.tensors.keys() == {f"{letter}/{name}" for letter in "mv" for name in names}


@pytest.mark.parametrize("kind", slow_but(FedAvgM, FedYogi, of=OPTIMIZERS))
def test_vectorized_clients_give_what_single_ones_do(
    kind: Callable[[], ServerOptimizer], toy_model: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"max_rounds": 2, "clients_per_round": 4, "precision": "64-true"}
    one = federation(toy_model, tmp_path / "one", kind(), **settings)
    execution = VectorizedClients(4)
    together = federation(toy_model, tmp_path / "all", kind(), execution=execution, **settings)
    assert_close(together.broadcast, one.broadcast, 1e-6)


class FrozenFactor(FedAdam):
    """FedAdam of the factors B and the head alone."""

    def trains(self, names: Any, client: Any) -> Any:
        return factor(names, "B", "head")

    def receives(self, names: Any, client: Any) -> Any:
        return factor(names, "B", "head")


def test_a_server_optimizer_may_freeze_a_factor(toy_model: Path, tmp_path: Path) -> None:
    state = federation(toy_model, tmp_path, FrozenFactor(), max_rounds=2)
    assert state.broadcast.tensors
    assert not any("lora_A" in name for name in (*state.broadcast.tensors, *state.server.tensors))
