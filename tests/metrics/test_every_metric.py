import copy
import pickle  # only ever of what the test made itself
from collections.abc import Callable
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from torchmetrics import Metric, MetricCollection

import lit_fed.metrics
from lit_fed.metrics import (
    ClientFairness,
    ClientJensenShannon,
    DistinctN,
    GeneralizationUnderShift,
    ParameterEfficiency,
    SemanticRetentionScore,
    TaskMatrix,
    TaskTransferAccuracy,
)
from tests.metrics.every_metric import METRICS, OF_TEXTS, text_updates, updates
from tests.slow import slow_but

matplotlib.use("Agg")

same = torch.testing.assert_close


@pytest.mark.parametrize("name", METRICS)
def test_flags(name: str) -> None:
    metric = METRICS[name]()
    assert metric.is_differentiable is False
    assert metric.full_state_update is False
    assert type(metric).__dict__["higher_is_better"] in (True, False, None)


@pytest.mark.parametrize("name", METRICS)
def test_reset_and_the_order_of_updates(name: str) -> None:
    metric, calls = METRICS[name](), updates(name)
    for call in calls:
        metric.update(**call)
    expected = metric.compute()
    metric.reset()
    for call in reversed(calls):
        metric.update(**call)
    same(metric.compute(), expected)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("name", METRICS)
def test_reset_is_the_start(name: str) -> None:
    metric = METRICS[name]()
    for call in updates(name):
        metric.update(**call)
    metric.reset()
    same(metric.compute(), METRICS[name]().compute(), equal_nan=True)


@pytest.mark.parametrize("name", [name for name in METRICS if name != "rsi"])
def test_forward_accumulates_as_update(name: str) -> None:
    metric, other = METRICS[name](), METRICS[name]()
    for call in updates(name):
        metric(**call)
        other.update(**call)
    same(metric.compute(), other.compute())


@pytest.mark.parametrize("name", METRICS)
def test_merge_state(name: str) -> None:
    parts, whole, calls = (METRICS[name](), METRICS[name]()), METRICS[name](), updates(name)
    for index, call in enumerate(calls):
        parts[index % 2].update(**call)
        whole.update(**call)
    parts[0].merge_state(parts[1])
    same(parts[0].compute(), whole.compute())


@pytest.mark.parametrize("name", METRICS)
def test_copies(name: str) -> None:
    metric = METRICS[name]()
    for call in updates(name):
        metric.update(**call)
    expected = metric.compute()
    same(copy.deepcopy(metric).compute(), expected)
    metric.persistent(True)
    loaded = METRICS[name]()
    loaded.persistent(True)
    loaded.load_state_dict(metric.state_dict())
    loaded._update_count = 1
    same(loaded.compute(), expected)


@pytest.mark.parametrize("name", METRICS)
def test_pickle(name: str) -> None:
    metric = METRICS[name]()
    for call in updates(name):
        metric.update(**call)
    same(pickle.loads(pickle.dumps(metric)).compute(), metric.compute())  # noqa: S301


@pytest.mark.parametrize("name", METRICS)
def test_every_state_moves(name: str) -> None:
    metric = METRICS[name]()
    for call in updates(name):
        metric.update(**call)
    metric.to("meta")
    states = [s for state in metric.metric_state.values() for s in _tensors(state)]
    assert states
    assert {state.device.type for state in states} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", METRICS)
def test_on_a_gpu(name: str) -> None:
    metric, there = METRICS[name](), METRICS[name]().to("cuda")
    for call in updates(name):
        metric.update(**call)
        there.update(**{key: _to_gpu(value) for key, value in call.items()})
    values = there.compute()
    for value in _tensors(values.values() if isinstance(values, dict) else values):
        assert value.device.type == "cuda"
    same(values, metric.compute(), check_device=False)


@pytest.mark.parametrize("name", slow_but("matrix", *list(METRICS)[:4], of=METRICS))
def test_plot(name: str) -> None:
    metric = METRICS[name]()
    for call in updates(name):
        metric.update(**call)
    figure, axes = metric.plot()
    figure.canvas.draw()
    assert axes.has_data()
    if name != "matrix":
        _, axes = metric.plot([metric.compute(), metric.compute()])
        assert axes.get_xlabel() == "Step"
    plt.close("all")


def test_collection_shares_one_matrix() -> None:
    """Those that count the same do; the values that transfer counts depend on rounds of adaptation."""
    names = ("matrix", "srs", "bwt", "la", "tta", "fwt")
    collection = MetricCollection({name: METRICS[name]() for name in names})
    alone = {name: METRICS[name]() for name in names}
    for call in updates("matrix"):
        collection.update(**call)
        for metric in alone.values():
            metric.update(**call)
    assert sorted(map(sorted, collection.compute_groups.values())) == [
        ["bwt", "la", "matrix", "srs"],
        ["fwt", "tta"],
    ]
    same(collection.compute(), {name: metric.compute() for name, metric in alone.items()})


def test_collection_of_texts_gives_each_metric_its_own() -> None:
    # of empty texts all shares are 0 of as many, by which torchmetrics would take metrics for the same
    empty = {
        "preds": ["", ""],
        "target": ["", ""],
        "source": ["", ""],
        "rows": [{"answer": "a"}] * 2,
    }
    calls = [empty, *text_updates()]
    collection = MetricCollection({name: METRICS[name]() for name in OF_TEXTS})
    expected: dict[str, Any] = {}
    for call in calls:
        collection.update(**call)
    for name in OF_TEXTS:
        metric = METRICS[name]()
        for call in calls:
            metric.update(**metric._filter_kwargs(**call))
        value = metric.compute()
        expected |= value if isinstance(value, dict) else {name: value}
    same(collection.compute(), expected)


def adaptation() -> list[dict[str, Any]]:
    later = [
        {"value": value, "after": 0, "task": 1, "rounds": rounds}
        for rounds, value in enumerate([0.0, 0.5, 0.75])
    ]
    return [{"value": 0.9, "after": 0, "task": 0, "rounds": 0}, *later]


def changes_of_parameters() -> list[dict[str, Any]]:
    before = {"w": torch.ones(4)}
    by = (torch.full((4,), 10.0), torch.tensor([0.1, 0.0, 0.0, 0.0]))
    return [{"before": before, "after": {"w": 1 + d}, "num_parameters": 8} for d in by]


def shifts_and_clients() -> list[dict[str, Any]]:
    places = [("a", 0), ("a", 1), ("b", 0), ("b", 2)]
    values = (1.0, 0.5, 0.25, 0.75)
    return [
        {"value": value, "shift": shift, "client": client}
        for value, (shift, client) in zip(values, places, strict=True)
    ]


def texts_of_clients() -> list[dict[str, Any]]:
    return [
        {"preds": [text], "texts": [text], "client": client}
        for client, text in enumerate(["a b c", "b c", "c d"])
    ]


@pytest.mark.parametrize(
    ("make", "calls", "expected"),
    [
        (
            lambda: {
                "matrix": TaskMatrix(2),
                "unadapted": TaskTransferAccuracy(2),
                "adapted": TaskTransferAccuracy(2, adaptation_rounds=2),
            },
            adaptation,
            {"unadapted": 0.0, "adapted": 75.0},
        ),
        (
            lambda: {
                "changed": ParameterEfficiency(),
                "trainable": ParameterEfficiency(mode="trainable"),
                "far": ParameterEfficiency(threshold=1.0),
            },
            changes_of_parameters,
            {"changed": 31.25, "trainable": 50.0, "far": 25.0},
        ),
        (
            lambda: {
                "shift": GeneralizationUnderShift(["a", "b"]),
                "turned": GeneralizationUnderShift(["b", "a"], mode="worst"),
                "fair": ClientFairness(3),
            },
            shifts_and_clients,
            {"shift": 62.5, "turned": 50.0},
        ),
        (
            lambda: {"distinct": DistinctN(1), "clients": ClientJensenShannon(3)},
            texts_of_clients,
            {"distinct": pytest.approx(400 / 7)},
        ),
    ],
)
def test_different_settings_do_not_share(
    make: Callable[[], dict[str, Metric]],
    calls: Callable[[], list[dict[str, Any]]],
    expected: dict[str, Any],
) -> None:
    """The states are equal after the first update, by which torchmetrics goes, and differ later."""
    collection, alone = MetricCollection(make()), make()
    for call in calls():
        collection.update(**call)
        for metric in alone.values():
            metric.update(**metric._filter_kwargs(**call))
    told: dict[str, Any] = {}
    for name, metric in alone.items():
        value = metric.compute()
        told |= value if isinstance(value, dict) else {name: value}
    found = collection.compute()
    same(found, told, equal_nan=True)
    assert len(collection.compute_groups) == len(alone)
    assert {name: found[name].item() for name in expected} == expected


def test_the_states_of_a_matrix_keep_their_names() -> None:
    assert list(TaskMatrix(2).metric_state) == ["correct", "total"]
    assert TaskMatrix(2).metric_state.keys() < TaskTransferAccuracy(2).metric_state.keys()


def test_collection_hands_out_only_what_each_metric_takes() -> None:
    collection = MetricCollection(
        {"matrix": TaskMatrix(2), "srs": SemanticRetentionScore(2, mode="bwt")}
    )
    collection.update(value=1.0, after=0, task=0, reference=None)
    assert collection.compute()["matrix"][0, 0].item() == 1.0


def test_all_is_complete() -> None:
    assert sorted(lit_fed.metrics.__all__) == list(lit_fed.metrics.__all__)
    for name in lit_fed.metrics.__all__:
        assert getattr(lit_fed.metrics, name).__doc__


def _tensors(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else list(value)


def _to_gpu(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_gpu(entry) for key, entry in value.items()}
    return value.to("cuda") if isinstance(value, torch.Tensor) else value
