import math

import numpy as np
import pytest

from lit_fed.methods.semantic_consensus import HashedNgramEncoder, calibrated_threshold
from lit_fed.methods.semantic_consensus.encoders.calibration_answers import ANSWERS, PROMPTS
from tests.methods.semantic_consensus.votes import GivenVectors


def on_circle(**degrees: float) -> GivenVectors:
    return GivenVectors(
        {n: (math.cos(math.radians(d)), math.sin(math.radians(d))) for n, d in degrees.items()}
    )


def test_by_hand() -> None:
    encoder = on_circle(a=0, a2=10, b=90, b2=120)
    # Within groups 10° and 30°, between groups 80° and more.
    expected = (2 - math.cos(math.radians(30)) - math.cos(math.radians(80))) / 2
    assert calibrated_threshold(encoder, [["a", "a2"], ["b", "b2"]]) == pytest.approx(expected)


def test_pairs_of_other_prompts_are_left_out() -> None:
    encoder = on_circle(a=0, a2=10, b=40, c=12, c2=60)
    groups = [["a", "a2"], ["b"], ["c", "c2"]]
    expected = (2 - math.cos(math.radians(10)) - math.cos(math.radians(30))) / 2
    assert calibrated_threshold(encoder, groups) != pytest.approx(expected)
    assert calibrated_threshold(encoder, groups, [0, 0, 1]) == pytest.approx(expected)


def test_no_other_cut_parts_them_better() -> None:
    encoder = HashedNgramEncoder()
    cut = calibrated_threshold(encoder, ANSWERS, PROMPTS)
    texts = [
        (p, g, text)
        for g, (p, group) in enumerate(zip(PROMPTS, ANSWERS, strict=True))
        for text in group
    ]
    vectors = encoder.encode([text for *_, text in texts]).double().numpy()
    same, differ = [], []
    for i, (p, g, _) in enumerate(texts):
        for j, (q, h, _) in enumerate(texts[:i]):
            if p == q:
                (same if g == h else differ).append(1 - vectors[i] @ vectors[j])

    def youden(at: float) -> float:
        return float(np.mean(np.array(same) <= at) - np.mean(np.array(differ) <= at))

    assert youden(cut) == pytest.approx(
        max(youden(at) for at in np.linspace(0, 1.2, 2401)), abs=1e-9
    )


@pytest.mark.parametrize("groups", [[], [["a", "b"]], [["a"], ["b"]]])
def test_nothing_to_calibrate_on(groups: list[list[str]]) -> None:
    with pytest.raises(
        ValueError, match="`groups` is expected to have answers to one prompt that say the same"
    ):
        calibrated_threshold(HashedNgramEncoder(), groups)


def test_the_packages_answers() -> None:
    assert len(ANSWERS) == len(PROMPTS) == 30
    assert {len(group) for group in ANSWERS} == {4}
    assert len({text for group in ANSWERS for text in group}) == 120
