import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from lit_fed.metrics import (
    SemanticRetentionScore,
    backward_transfer,
    retained_similarity,
    retention_since_learnt,
    semantic_retention,
)

NAN = float("nan")


def fill(metric: Any, matrix: Tensor) -> Any:
    for after, row in enumerate(matrix.tolist()):
        for task, value in enumerate(row):
            if value == value:
                metric.update(value, after=after, task=task, weight=10)
    return metric


def reference_srs(matrix: NDArray[np.float64], chance: Sequence[float]) -> float:
    """The definition, with loops and tasks from 1."""
    num_tasks = len(matrix)

    def gain(t: int, j: int) -> float:
        return max(0.0, float((matrix[t - 1, j - 1] - chance[j - 1]) / (1 - chance[j - 1])))

    total = 0.0
    for j in range(1, num_tasks):
        best = max(gain(t, j) for t in range(j, num_tasks))
        now = gain(num_tasks, j)
        total += 0.0 if best == now == 0 else 1.0 if best == 0 else min(1.0, now / best)
    return 100 * total / (num_tasks - 1)


@pytest.mark.parametrize("num_tasks", [2, 3, 6])
def test_equals_the_formula(num_tasks: int) -> None:
    generator = np.random.default_rng(num_tasks)
    for _ in range(20):
        matrix = generator.uniform(0, 1, (num_tasks, num_tasks))
        chance = generator.uniform(0, 0.6, num_tasks).tolist()
        expected = reference_srs(matrix, chance)
        assert semantic_retention(torch.from_numpy(matrix), chance).item() == pytest.approx(
            expected
        )
        metric = fill(SemanticRetentionScore(num_tasks, chance), torch.from_numpy(matrix))
        assert metric.compute().item() == pytest.approx(expected, rel=1e-4)


def test_by_hand() -> None:
    matrix = torch.tensor([[0.8, 0.1, 0.1], [0.9, 0.6, 0.1], [0.45, 0.6, 0.9]])
    # Task 0 keeps 0.45 of at best 0.9, task 1 keeps all.
    assert semantic_retention(matrix).item() == pytest.approx(75.0)
    assert backward_transfer(matrix).item() == pytest.approx(100 * (-0.35 + 0.0) / 2)


def test_nothing_forgotten_is_100() -> None:
    matrix = torch.tensor([[0.8, 0.5], [0.8, 0.9]])
    assert fill(SemanticRetentionScore(2, chance=0.5), matrix).compute().item() == 100.0
    assert fill(SemanticRetentionScore(2, mode="bwt"), matrix).compute().item() == 0.0


def test_gains_on_one_task_do_not_pay_for_losses_on_another() -> None:
    matrix = torch.tensor([[0.5, 0.0, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.5]])
    assert semantic_retention(matrix).item() == 50.0
    assert backward_transfer(matrix).item() == 0.0


def test_learnt_only_later_counts_as_kept() -> None:
    assert semantic_retention(torch.tensor([[0.0, 0.0], [0.5, 0.5]])).item() == 100.0


def test_constant_classifier_scores_0() -> None:
    matrix = torch.full((3, 3), 0.5)
    assert fill(SemanticRetentionScore(3, chance=0.5), matrix).compute().item() == 0.0


def test_model_that_never_learns_scores_0() -> None:
    assert fill(SemanticRetentionScore(3), torch.zeros(3, 3)).compute().item() == 0.0


@pytest.mark.parametrize("mode", ["accuracy", "bwt"])
def test_one_task_is_nan(mode: Any) -> None:
    assert fill(SemanticRetentionScore(1, mode=mode), torch.ones(1, 1)).compute().isnan()
    assert fill(SemanticRetentionScore(3, mode=mode), torch.ones(1, 1)).compute().isnan()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("mode", ["accuracy", "cosine", "jsd", "bwt"])
def test_no_update_is_nan(mode: Any) -> None:
    assert SemanticRetentionScore(3, mode=mode).compute().isnan()


def test_can_be_read_during_the_sequence() -> None:
    matrix = torch.tensor([[0.8, NAN, NAN], [0.4, 0.9, NAN], [NAN, NAN, NAN]])
    assert semantic_retention(matrix).item() == pytest.approx(50.0)
    assert backward_transfer(matrix).item() == pytest.approx(-40.0)


def test_missing_cells() -> None:
    # The best of those before the end that exist; without one, or without the last, no score.
    matrix = torch.tensor([[0.8, NAN, NAN], [NAN, 0.8, NAN], [0.4, 0.8, 0.9]])
    assert semantic_retention(matrix).item() == pytest.approx(75.0)
    assert semantic_retention(torch.tensor([[NAN, 0.5], [0.4, 0.8]])).isnan()
    assert semantic_retention(torch.tensor([[0.5, 0.5], [NAN, 0.8]])).isnan()
    assert backward_transfer(torch.tensor([[NAN, 0.5], [0.4, 0.8]])).isnan()


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.lists(
            st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n), min_size=n, max_size=n
        )
    ),
    st.floats(0, 0.9),
)
def test_range_and_order_of_tasks(rows: list[list[float]], chance: float) -> None:
    matrix = torch.tensor(rows, dtype=torch.float64)
    score = semantic_retention(matrix, chance)
    assert 0 <= score <= 100
    assert -100 <= backward_transfer(matrix) <= 100
    # What is known of tasks not yet trained on plays no part.
    future = matrix.clone()
    future[torch.ones_like(future).triu(1).bool()] = NAN
    torch.testing.assert_close(semantic_retention(future, chance), score)


def test_cosine() -> None:
    srs = SemanticRetentionScore(3, mode="cosine")
    outputs = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    srs.update(outputs, after=2, task=0, reference=3 * outputs)
    srs.update(outputs, after=2, task=1, reference=outputs.flip(0))
    srs.update(outputs, after=2, task=2, reference=-outputs)
    assert srs.compute().item() == pytest.approx(50.0)


def test_cosine_of_opposites_counts_as_0() -> None:
    srs = SemanticRetentionScore(2, mode="cosine")
    srs.update(torch.ones(1, 2), after=1, task=0, reference=-torch.ones(1, 2))
    assert srs.compute().item() == 0.0


def test_jsd_of_an_unchanged_model_is_100() -> None:
    probabilities = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).softmax(-1)
    srs = SemanticRetentionScore(2, mode="jsd")
    srs.update(probabilities, after=1, task=0, reference=probabilities)
    assert srs.compute().item() == 100.0


def test_similarity_weighs_rows() -> None:
    srs = SemanticRetentionScore(2, mode="jsd")
    rows, reference = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    srs.update(rows, 1, 0, weight=torch.tensor([1.0, 3.0]), reference=reference)
    assert srs.compute().item() == pytest.approx(25.0)


def test_retained_similarity_ignores_the_last_task() -> None:
    assert retained_similarity(torch.tensor([[1.0, 1.0], [0.5, 1.0]])).item() == 50.0
    assert retained_similarity(torch.ones(1, 1)).isnan()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"mode": "kl"},
            "`mode` is expected to be one of 'accuracy', 'since_learnt', 'cosine', 'jsd', 'bwt', but",
        ),
        ({"chance": 1.0}, "`chance` is expected to lie in [0, 1), but got 1.0"),
        ({"chance": [0.5]}, "`chance` is expected to be a number or 2 numbers, one a task, but"),
        (
            {"chance": 0.5, "mode": "bwt"},
            '`chance` is expected with mode="accuracy" or "since_learnt" only, but',
        ),
    ],
)
def test_bad_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SemanticRetentionScore(2, **arguments)


def test_reference_missing_or_superfluous() -> None:
    with pytest.raises(ValueError, match=r"are expected to be tensors with mode 'cosine', but"):
        SemanticRetentionScore(2, mode="cosine").update(torch.ones(1, 2), 1, 0)
    with pytest.raises(ValueError, match="`reference` is expected with the modes 'cosine' and"):
        SemanticRetentionScore(2).update(torch.ones(2), 1, 0, reference=torch.ones(2))


@pytest.mark.parametrize("function", [semantic_retention, backward_transfer, retained_similarity])
def test_no_square_matrix_of_floats(function: Any) -> None:
    with pytest.raises(ValueError, match=re.escape("[tasks, tasks], but has [2, 3]")):
        function(torch.ones(2, 3))
    with pytest.raises(TypeError, match=re.escape("floating point numbers, but holds torch.int64")):
        function(torch.ones(2, 2, dtype=torch.int64))


def test_retention_since_learnt_by_hand() -> None:
    """What was gained on one task makes up for what another lost, and no maximum is taken."""
    matrix = torch.tensor([[0.8, 0.5, 0.5], [0.9, 0.7, 0.5], [0.7, 0.75, 0.9]])
    # above chance 0.5: learnt 0.6 and 0.4; left 0.4 and 0.5
    assert float(retention_since_learnt(matrix, 0.5)) == pytest.approx(90)
    assert float(semantic_retention(matrix, 0.5)) == pytest.approx(50 * (0.4 / 0.8 + 1))
    assert float(retention_since_learnt(torch.zeros(2, 2))) == 0
    # nothing was learnt that could have been retained
    assert retention_since_learnt(torch.tensor([[0.0, NAN], [0.5, 0.9]])).isnan()
    assert retention_since_learnt(torch.tensor([[0.4, NAN], [0.6, 0.9]]), 0.5).isnan()
    assert retention_since_learnt(torch.tensor([[0.5]])).isnan()


def test_retention_since_learnt_is_not_biased_by_noise() -> None:
    """A model that forgets nothing: the maximum over noisy cells and the cap at 1 tell of losses."""
    draws = torch.distributions.Binomial(50, torch.full((2000, 4, 4), 0.8))
    torch.manual_seed(0)
    matrices = draws.sample() / 50
    since = torch.stack([retention_since_learnt(m, 0.5) for m in matrices]).mean()
    literal = torch.stack([semantic_retention(m, 0.5) for m in matrices]).mean()
    assert float(since) == pytest.approx(100, abs=2)
    assert float(literal) < 90
