"""Each robust rule beside a NumPy reference, over coordinates and over products, and with planted outliers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import HDBSCAN

from lit_fed import Payload
from lit_fed.aggregation import (
    FLAME,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    MultiKrum,
    NormClipping,
    TrimmedMean,
    WeightedAverage,
)
from lit_fed.aggregation.lora.factors import FactorNames, LoRALayout
from lit_fed.aggregation.robust import Coordinates, Geometry, Products, RobustRule
from lit_fed.aggregation.robust.products import nearest
from lit_fed.update import Update
from tests.aggregation.robust.rounds import (
    Round,
    dense,
    dense_changes,
    payload,
    products,
    random_round,
    truncated,
)

RULES: dict[str, Callable[[Geometry | None], RobustRule]] = {
    "CoordinateMedian": lambda g: CoordinateMedian(geometry=g),
    "TrimmedMean": lambda g: TrimmedMean(0.3, geometry=g),
    "Krum": lambda g: Krum(3, geometry=g),
    "MultiKrum": lambda g: MultiKrum(3, geometry=g),
    "MultiKrum of 2": lambda g: MultiKrum(1, 2, geometry=g),
    "GeometricMedian": lambda g: GeometricMedian(geometry=g),
    "NormClipping": lambda g: NormClipping(geometry=g),
    "NormClipping at 1": lambda g: NormClipping(1.0, weights="size", geometry=g),
    "FLAME": lambda g: FLAME(noise=0.0, geometry=g),
}
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
geometries = pytest.mark.parametrize(
    "over_products", [False, True], ids=["coordinates", "products"]
)


def geometry(over_products: bool) -> Geometry:
    return products() if over_products else Coordinates()


# ---------------------------------------------------------------- the references: changes [K, n], sizes [K]


def median(d: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.median(d, axis=0)


def trimmed_mean(d: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    cut = int(0.3 * len(d))
    return np.sort(d, axis=0)[cut : len(d) - cut].mean(0)


def krum_order(d: np.ndarray, f: int) -> list[int]:
    scores = []
    for i in range(len(d)):
        others = sorted(float(((d[i] - d[j]) ** 2).sum()) for j in range(len(d)) if j != i)
        scores.append(sum(others[: len(d) - f - 2]))
    return list(np.argsort(scores))


def geometric_median(d: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    alpha = sizes / sizes.sum()
    v = alpha @ d
    for _ in range(5000):
        beta = alpha / np.maximum(1e-6, np.linalg.norm(v - d, axis=1))
        v = beta @ d / beta.sum()
    return v


def clip(d: np.ndarray, bound: float) -> np.ndarray:
    return d * np.minimum(1, bound / np.linalg.norm(d, axis=1))[:, None]


def flame(d: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    unit = d / np.linalg.norm(d, axis=1, keepdims=True)
    distances = np.maximum(1 - unit @ unit.T, 0)
    np.fill_diagonal(distances, 0)
    found = HDBSCAN(
        min_cluster_size=len(d) // 2 + 1,
        min_samples=2,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    ).fit_predict(distances)
    inside = found == 0
    assert inside.sum() > len(d) / 2
    return clip(d, float(np.median(np.linalg.norm(d, axis=1))))[inside].mean(0)


REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "CoordinateMedian": median,
    "TrimmedMean": trimmed_mean,
    "Krum": lambda d, sizes: d[krum_order(d, 3)[0]],
    "MultiKrum": lambda d, sizes: d[krum_order(d, 3)[: len(d) - 3]].mean(0),
    "MultiKrum of 2": lambda d, sizes: d[krum_order(d, 1)[:2]].mean(0),
    "GeometricMedian": geometric_median,
    "NormClipping": lambda d, sizes: clip(d, float(np.median(np.linalg.norm(d, axis=1)))).mean(0),
    "NormClipping at 1": lambda d, sizes: (sizes / sizes.sum()) @ clip(d, 1.0),
    "FLAME": flame,
}


@geometries
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("clients", [9, 10])
def test_a_rule_is_its_reference(name: str, over_products: bool, clients: int) -> None:
    one = random_round(clients, seed=clients)
    rule = RULES[name](geometry(over_products))
    found = rule(one.updates, one.previous)
    changes = dense_changes(one, over_products)
    sizes = np.array([u.num_samples for u in one.updates], dtype=float)
    expected = dense(one.previous, over_products) + REFERENCES[name](changes, sizes)
    np.testing.assert_allclose(
        dense(found, over_products), truncated(expected, over_products), rtol=0, atol=1e-10
    )
    assert list(found.tensors) == list(one.previous.tensors)
    weights = rule.weights(one.updates)
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0
    assert rule.metrics()


@geometries
@rules
def test_the_order_of_the_clients_changes_nothing(
    rule: Callable[[Geometry | None], RobustRule], over_products: bool
) -> None:
    one = random_round(10, seed=3)
    order = np.random.default_rng(0).permutation(10)
    mixed = [one.updates[i] for i in order]
    first, second = rule(geometry(over_products)), rule(geometry(over_products))
    a, b = first(one.updates, one.previous), second(mixed, one.previous)
    np.testing.assert_allclose(dense(a, over_products), dense(b, over_products), rtol=0, atol=1e-10)
    weights = first.weights(one.updates)
    assert second.weights(mixed) == pytest.approx([weights[i] for i in order], abs=1e-10)


# ---------------------------------------------------------------- outliers


def attacked(one: Round, kind: str, number: int) -> Round:
    """The first clients' changes turned around, × 100, or noise."""
    generator = np.random.default_rng(0)
    updates = list(one.updates)
    for i in range(number):
        values = {}
        for name, before in one.previous.tensors.items():
            change = updates[i].payload.tensors[name].numpy() - before.numpy()
            wrong = {
                "flip": -change,
                "boost": 100 * change,
                "noise": generator.normal(size=change.shape) * 3,
            }[kind]
            values[name] = before.numpy() + wrong
        updates[i] = replace(updates[i], payload=payload(values), num_samples=25)
    return Round(updates, one.previous)


@geometries
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kind", ["flip", "boost", "noise"])
def test_outliers_do_not_move_a_robust_rule_far(
    kind: str, number: int, over_products: bool
) -> None:
    clean = random_round(10, seed=5, spread=0.1)
    clean.updates[:] = [replace(u, num_samples=25) for u in clean.updates]
    one = attacked(clean, kind, number)
    honest = dense_changes(clean, over_products)[number:].mean(0)
    length = np.linalg.norm(honest)
    before = dense(one.previous, over_products)

    def off(rule: Any) -> float:
        found = dense(rule(one.updates, one.previous), over_products) - before
        return float(np.linalg.norm(found - honest) / length)

    naive = off(WeightedAverage())
    named = {name: off(make(geometry(over_products))) for name, make in RULES.items()}
    # 2 / 10 of the way back for each client that has turned around
    assert naive > 0.18 * number
    # a bound on the norm does not help against clients that stay below it
    clipped = {name: named.pop(name) for name in list(named) if "NormClipping" in name}
    if number == 3:
        named.pop("MultiKrum of 2")  # which expects one
    assert max(named.values()) < 0.5 * naive, (naive, named)
    # the truncation to the adapter's rank is a part of it
    assert max(named.values()) < 0.5, named
    if kind == "boost":
        assert max(clipped.values()) < 1.0, clipped
        assert naive > 5


@geometries
def test_selection_gives_outliers_no_weight_and_says_so_once(
    over_products: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clean = random_round(10, seed=6, spread=0.1)
    one = attacked(clean, "boost", 3)
    rule = MultiKrum(3, geometry=geometry(over_products))
    with caplog.at_level("INFO"):
        for _ in range(3):
            rule(one.updates, one.previous)
    assert rule.weights(one.updates) == [0.0] * 3 + [pytest.approx(1 / 7)] * 7
    assert rule.metrics() == {"server/multi_krum/selected": 7.0, "server/multi_krum/left_out": 3.0}
    said = [record.message for record in caplog.records if "leaves out" in record.message]
    assert said == ["MultiKrum leaves out 'c00', 'c01', 'c02'"]
    with caplog.at_level("INFO"):
        rule(clean.updates[:3] + one.updates[3:], one.previous)
    assert "counts again" in caplog.records[-1].message
    flame = FLAME(0.0, geometry=geometry(over_products))
    flipped = attacked(clean, "flip", 3)
    flame(flipped.updates, flipped.previous)
    assert flame.weights(flipped.updates)[:3] == [0.0] * 3
    assert flame.metrics()["server/flame/left_out"] >= 3


def test_equal_products_of_other_factors_are_equal_clients() -> None:
    """B·R and R⁻¹·A: products see no difference, coordinates see an outlier, and a mean of factors is ruined."""
    one = random_round(7, seed=8, spread=0.05)
    tensors = dict(one.updates[2].payload.tensors)
    for name in ("x", "y"):
        tensors[f"{name}.lora_B.weight"] = tensors[f"{name}.lora_B.weight"] * 1e3
        tensors[f"{name}.lora_A.weight"] = tensors[f"{name}.lora_A.weight"] / 1e3
    turned = [*one.updates]
    turned[2] = replace(turned[2], payload=Payload(tensors))
    for make in RULES.values():
        rule = make(products())
        if rule.fewest_updates > 7:
            continue
        a, b = rule(one.updates, one.previous), rule(turned, one.previous)
        np.testing.assert_allclose(dense(a, True), dense(b, True), rtol=0, atol=1e-9)
    honest = dense_changes(one, True).mean(0) + dense(one.previous, True)
    naive = dense(WeightedAverage("uniform")(turned, one.previous), True)
    assert np.linalg.norm(naive - honest) > 10 * np.linalg.norm(honest)
    seen = MultiKrum(1, geometry=Coordinates())
    seen(turned, one.previous)
    assert seen.weights(turned)[2] == 0


def hidden_behind_a_row(height: float) -> Round:
    """Honest clients, and one whose product is far off, with a row of A that a column of zeros in B multiplies."""
    size, rank = 32, 4
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    before = {"b": 0.1 * normal(size, rank), "a": 0.1 * normal(rank, size)}
    wrong = {"b": np.zeros_like(before["b"]), "a": np.zeros_like(before["a"])}
    wrong["b"][:, 0], wrong["a"][0], row = normal(size), normal(size), normal(size)
    wrong["a"][1] = np.float32(height) * row
    honest = [{n: v + 0.01 * normal(*v.shape) for n, v in before.items()} for _ in range(10)]
    sent = [Update(f"c{i:02}", payload(one), 1) for i, one in enumerate([wrong, *honest])]
    return Round(sent, payload(before))


@rules
@pytest.mark.parametrize("height", [1e6, 1e10, 1e20, 1e30])
def test_a_row_that_changes_no_weight_hides_nothing(
    rule: Callable[[Geometry | None], RobustRule], height: float
) -> None:
    def over() -> Products:
        geometry = Products()
        geometry._layout = LoRALayout({"x": FactorNames("a", "b", 1.0)})
        return geometry

    plain, hiding = hidden_behind_a_row(0.0), hidden_behind_a_row(height)
    changes = over().changes(hiding.updates, hiding.previous)
    expected = over().changes(plain.updates, plain.previous)
    assert float(expected.norms()[0]) > 20 * float(expected.norms()[1:].max())
    torch.testing.assert_close(changes.norms(), expected.norms(), rtol=1e-9, atol=0)
    torch.testing.assert_close(changes.inner_products(), expected.inner_products())
    first, second = rule(over()), rule(over())
    a, b = first(plain.updates, plain.previous), second(hiding.updates, hiding.previous)
    torch.testing.assert_close(
        b.tensors["b"] @ b.tensors["a"], a.tensors["b"] @ a.tensors["a"], rtol=0, atol=1e-6
    )
    assert second.weights(hiding.updates) == pytest.approx(first.weights(plain.updates), abs=1e-9)


@pytest.mark.parametrize("far", [1e2, 1e8, 1e12, 1e18, 1e30])
def test_the_geometric_median_bears_any_distance(far: float) -> None:
    one = lone([[1.0], [2.0], [2.0], [3.0], [far]])
    rule = GeometricMedian()
    found = rule(one.updates, one.previous).tensors["w"]
    assert float(found) == pytest.approx(2.0, abs=1e-3)
    assert rule.metrics()["server/geometric_median/iterations"] < 200


# ---------------------------------------------------------------- edges


def lone(values: list[list[float]]) -> Round:
    sent = [Update(f"c{i}", Payload({"w": torch.tensor(v)}), 1) for i, v in enumerate(values)]
    return Round(sent, Payload({"w": torch.zeros(len(values[0]))}))


@pytest.mark.parametrize("name", [n for n in RULES if "Krum" not in n])
@pytest.mark.parametrize("clients", [1, 2])
def test_one_and_two_clients(name: str, clients: int) -> None:
    one = lone([[1.0, 0.0], [0.0, 1.0]][:clients])
    rule = RULES[name](None)
    found = rule(one.updates, one.previous).tensors["w"]
    expected = torch.tensor([1.0, 0.0]) if clients == 1 else torch.tensor([0.5, 0.5])
    torch.testing.assert_close(found, expected)
    assert rule.weights(one.updates) == pytest.approx([1 / clients] * clients)


@pytest.mark.parametrize("name", RULES)
def test_equal_clients_and_clients_that_have_changed_nothing(name: str) -> None:
    for value in ([1.0, 2.0], [0.0, 0.0]):
        one = lone([value] * 9)
        rule = RULES[name](None)
        found = rule(one.updates, one.previous).tensors["w"]
        expected = torch.tensor(value) / (5**0.5 if name == "NormClipping at 1" and value[0] else 1)
        torch.testing.assert_close(found, expected)
        assert sum(rule.weights(one.updates)) == pytest.approx(1)


@pytest.mark.parametrize("name", RULES)
def test_nothing_changes_over_products_where_nobody_has(name: str) -> None:
    """Where all of B is 0, as at the start, A stays as it was built: else the adapter could not learn any more."""
    generator = np.random.default_rng(0)
    values = {"head": np.ones(4)}
    for key, (out, width) in {"x": (5, 7), "y": (3, 4)}.items():
        values[f"{key}.lora_A.weight"] = generator.normal(size=(2, width))
        values[f"{key}.lora_B.weight"] = np.zeros((out, 2))
    before = payload(values)
    sent = [Update(f"c{i}", before, 1) for i in range(9)]
    found = RULES[name](products())(sent, before)
    for key, value in before.tensors.items():
        torch.testing.assert_close(found.tensors[key], value, rtol=0, atol=1e-14)


def test_what_is_left_of_a_lower_rank_goes_on_learning() -> None:
    one = random_round(9, seed=2)
    tensors = dict(one.updates[0].payload.tensors)
    for key in ("x", "y"):
        b = tensors[f"{key}.lora_B.weight"].clone()
        b[:, 1] = 0
        tensors[f"{key}.lora_B.weight"] = b
    same = [replace(u, payload=Payload(tensors)) for u in one.updates]
    found = Krum(3, geometry=products())(same, one.previous)
    for key in ("x", "y"):
        assert torch.linalg.matrix_rank(found.tensors[f"{key}.lora_B.weight"], rtol=1e-9) == 1
        assert torch.linalg.matrix_rank(found.tensors[f"{key}.lora_A.weight"], rtol=1e-3) == 2
    np.testing.assert_allclose(dense(found, True), dense(same[0].payload, True), atol=1e-12)


@rules
def test_factors_stay_near_those_before(rule: Callable[[Geometry | None], RobustRule]) -> None:
    """Whatever signs and order a decomposition gives: where the product hardly changes, the factors hardly do."""
    generator = np.random.default_rng(1)
    values = {"head": np.ones(4)}
    for key, (out, width) in {"x": (5, 7), "y": (3, 4)}.items():
        q, _ = np.linalg.qr(generator.normal(size=(width, 2)))
        p, _ = np.linalg.qr(generator.normal(size=(out, 2)))
        values[f"{key}.lora_A.weight"], values[f"{key}.lora_B.weight"] = q.T, p
    before = payload(values)
    sent = [
        Update(
            f"c{i}",
            payload({n: v + 1e-6 * generator.normal(size=v.shape) for n, v in values.items()}),
            1,
        )
        for i in range(9)
    ]
    found = rule(products())(sent, before)
    for key, value in before.tensors.items():
        torch.testing.assert_close(found.tensors[key], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 90), (200, 64)])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_large_matrix_is_brought_to_the_rank_as_a_small_one(
    shape: tuple[int, int], noise: float
) -> None:
    generator = np.random.default_rng(2)
    matrix = generator.normal(size=(shape[0], 3)) @ generator.normal(size=(3, shape[1]))
    matrix += noise * generator.normal(size=shape)
    u, s, vh = np.linalg.svd(matrix)
    found = nearest(torch.tensor(matrix), 4)
    assert found.rank == 4
    expected = u[:, :4] * s[:4] @ vh[:4]
    np.testing.assert_allclose(found.dense().numpy(), expected, rtol=0, atol=1e-10)
    assert torch.equal(nearest(torch.tensor(matrix), 4).p, found.p)
    assert not nearest(torch.zeros(shape, dtype=torch.float64), 4).dense().any()


def test_ties_are_shared_and_broken_by_name() -> None:
    one = lone([[1.0], [1.0], [1.0], [5.0]])
    rule = CoordinateMedian()
    assert rule(one.updates, one.previous).tensors["w"] == 1
    assert rule.weights(one.updates) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    square = lone([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    for updates in (square.updates, square.updates[::-1]):
        krum = Krum(0)
        assert not krum(updates, square.previous).tensors["w"].any()
        assert krum.weights(square.updates) == [1.0, 0.0, 0.0, 0.0]


@rules
def test_an_empty_round_is_refused(rule: Callable[[Geometry | None], RobustRule]) -> None:
    with pytest.raises(ValueError, match="expected from at least one client, but got none"):
        rule(None)([], Payload({"w": torch.zeros(1)}))


@rules
def test_other_tensors_are_refused(rule: Callable[[Geometry | None], RobustRule]) -> None:
    one = lone([[1.0], [2.0]] * 5)
    with pytest.raises(ValueError, match="the broadcast before is expected to hold 1 tensors"):
        rule(None)(one.updates, Payload({"v": torch.zeros(1)}))
    one.updates[4] = replace(one.updates[4], payload=Payload({"w": torch.zeros(2)}))
    with pytest.raises(
        ValueError, match=r"the upload of client 'c4' tensor 'w' is expected to have shape \[1\]"
    ):
        rule(None)(one.updates, one.previous)


@rules
def test_integers_that_differ_are_refused(rule: Callable[[Geometry | None], RobustRule]) -> None:
    sent = [Update(f"c{i}", Payload({"n": torch.tensor([i // 9])}), 1) for i in range(10)]
    with pytest.raises(ValueError, match=r"tensor 'n' of torch.int64 has no mean"):
        rule(None)(sent, sent[0].payload)
    assert rule(None)([sent[0]] * 9, sent[0].payload) == sent[0].payload


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="expected to be finite"):
        lone([[float("nan")]])
    huge = [
        Update(f"c{i}", Payload({"w": torch.tensor([1e300, i], dtype=torch.float64)}), 1)
        for i in range(5)
    ]
    for rule in (Krum(1), GeometricMedian(), NormClipping(), FLAME()):
        with pytest.raises(ValueError, match="finite norms, but one is too large for float64"):
            rule(huge, Payload({"w": torch.zeros(2, dtype=torch.float64)}))
    one = random_round(9, seed=0)
    tensors = {name: value * 1e200 for name, value in one.updates[4].payload.tensors.items()}
    one.updates[4] = replace(one.updates[4], payload=Payload(tensors))
    for rule in (Krum(1, products()), NormClipping(geometry=products()), FLAME(0.0, products())):
        with pytest.raises(ValueError, match="finite norms, but one is too large for float64"):
            rule(one.updates, one.previous)


@pytest.mark.parametrize("clients", range(3, 9))
def test_krum_needs_two_f_and_three_clients(clients: int) -> None:
    one = lone([[float(i)] for i in range(clients)])
    for rule in (Krum(3), MultiKrum(3)):
        assert rule.fewest_updates == 9
        with pytest.raises(
            ValueError,
            match=rf"num_malicious` 3 expects at least 2f \+ 3 = 9 updates in a round, but got {clients}",
        ):
            rule(one.updates, one.previous)


def test_settings_out_of_range_are_refused() -> None:
    for make, said in (
        (
            lambda: TrimmedMean(0.5),
            "`model.aggregation.share` is expected to be at least 0 and below 0.5",
        ),
        (lambda: TrimmedMean(-0.1), "but got -0.1"),
        (
            lambda: Krum(-1),
            "`model.aggregation.num_malicious` is expected to be at least 0, but got -1",
        ),
        (
            lambda: MultiKrum(1, 0),
            "`model.aggregation.num_selected` is expected to be at least 1, but got 0",
        ),
        (lambda: GeometricMedian(smoothing=0), "`model.aggregation.smoothing`"),
        (lambda: GeometricMedian(max_iterations=0), "`model.aggregation.max_iterations`"),
        (
            lambda: NormClipping(0.0),
            "`model.aggregation.bound` is expected to be finite and above 0",
        ),
        (lambda: NormClipping(1.0, noise_multiplier=-1), "`model.aggregation.noise_multiplier`"),
        (lambda: NormClipping(noise_multiplier=1.0), "`model.aggregation.bound` to be a number"),
        (lambda: NormClipping(1.0, "size", 1.0), "`model.aggregation.weights` to be 'uniform'"),
        (
            lambda: NormClipping(1.0, noise_multiplier=1.0, sample_rate=0.0),
            "`model.aggregation.sample_rate`",
        ),
        (lambda: NormClipping(1.0, noise_multiplier=1.0, delta=0.0), "`model.aggregation.delta`"),
        (lambda: FLAME(-1.0), "`model.aggregation.noise`"),
    ):
        with pytest.raises(ValueError, match=said):
            make()  # type: ignore[no-untyped-call]
    with pytest.raises(
        TypeError, match=r"`model\.aggregation\.geometry` is expected to be an instance of Geometry"
    ):
        Krum(geometry="products")  # type: ignore[arg-type]
    too_many = lone([[float(i)] for i in range(9)])
    with pytest.raises(
        ValueError, match=r"`model\.aggregation\.num_selected` is expected to be at most 6"
    ):
        MultiKrum(3, 7)(too_many.updates, too_many.previous)


def test_weights_are_those_of_the_round_that_was_combined() -> None:
    one = lone([[1.0], [2.0]])
    rule = CoordinateMedian()
    with pytest.raises(ValueError, match="called before, with the same clients, but got"):
        rule.weights(one.updates)


def test_flame_says_where_it_finds_no_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    """All count then, clipped to the median norm."""
    monkeypatch.setattr(HDBSCAN, "fit_predict", lambda self, distances: np.full(len(distances), -1))
    one = lone(np.diag([1.0, 2.0, 3.0, 4.0]).tolist())
    rule = FLAME(noise=0.0)
    with pytest.warns(UserWarning, match="FLAME finds no 3 of 4 clients whose changes point the"):
        found = rule(one.updates, one.previous).tensors["w"]
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, 2.5, 2.5]) / 4)
    assert rule.weights(one.updates) == [0.25] * 4
    assert rule.metrics() == {
        "server/flame/left_out": 0.0,
        "server/flame/bound": 2.5,
        "server/flame/clipped": 0.5,
    }


def test_flames_noise_is_a_share_of_the_median_norm() -> None:
    size = 20000
    sent = [Update(f"c{i}", Payload({"w": torch.full((size,), 1.0)}), 1) for i in range(3)]
    torch.manual_seed(0)
    found = FLAME(noise=0.01)(sent, Payload({"w": torch.zeros(size)})).tensors["w"]
    assert float(found.std()) == pytest.approx(0.01 * size**0.5, rel=0.02)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.05)


def test_parts_of_a_large_tensor_are_taken_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = random_round(9, seed=4)
    for name, make in RULES.items():
        for over in (False, True):
            whole = make(geometry(over))(one.updates, one.previous)
            with monkeypatch.context() as patch:
                patch.setattr("lit_fed.aggregation.robust.coordinates._AT_A_TIME", 30)
                patch.setattr("lit_fed.aggregation.robust.products._AT_A_TIME", 70)
                parts = make(geometry(over))(one.updates, one.previous)
            np.testing.assert_allclose(
                dense(whole, over), dense(parts, over), atol=1e-12, err_msg=name
            )


def test_flame_counts_little_more_than_half_of_honest_clients() -> None:
    torch.manual_seed(0)
    common = torch.randn(200)
    sent = [Update(f"{i}", Payload({"w": common + 0.3 * torch.randn(200)}), 1) for i in range(10)]
    rule = FLAME(noise=0.0)
    rule(sent, Payload({"w": torch.zeros(200)}))
    assert sum(weight > 0 for weight in rule.weights(sent)) == 6
