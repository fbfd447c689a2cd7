import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from lit_fed.methods.semantic_consensus import HashedNgramEncoder, calibrated_threshold
from lit_fed.methods.semantic_consensus.encoders.calibration_answers import ANSWERS, PROMPTS

TEXTS = ["The sea is blue.", "the sea was blue", "A green hill", "在北京", "?!", "x" * 300]


def test_similarities_are_those_of_counted_ngrams() -> None:
    """With so many dimensions that no two n-grams share one, of which the sign of the hash changes nothing."""
    found = HashedNgramEncoder(dimensions=1 << 20, shortest=2, longest=3).encode(TEXTS)
    counts = CountVectorizer(analyzer="char_wb", ngram_range=(2, 3)).fit_transform(TEXTS).toarray()
    counts = torch.from_numpy(counts).double()
    unit = counts / counts.norm(dim=1, keepdim=True)
    torch.testing.assert_close((found @ found.T).double(), unit @ unit.T, atol=1e-6, rtol=0)


def test_shape_and_length() -> None:
    found = HashedNgramEncoder(dimensions=64).encode(TEXTS)
    assert found.shape == (6, 64)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))
    assert torch.equal(found, HashedNgramEncoder(dimensions=64).encode(TEXTS[::-1]).flip(0))


def test_its_threshold_is_the_calibrated_one() -> None:
    encoder = HashedNgramEncoder()
    measured = calibrated_threshold(encoder, ANSWERS, PROMPTS)
    assert encoder.threshold == pytest.approx(measured, abs=0.005)
    # of other n-grams it is another one: single letters tell no capital from another
    letters = HashedNgramEncoder(shortest=1, longest=1)
    assert letters.threshold == calibrated_threshold(letters, ANSWERS, PROMPTS) < 0.1


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"dimensions": 0},
            "`model.selector.encoder.dimensions` is expected to be at least 1, but got 0",
        ),
        (
            {"shortest": 0},
            "`model.selector.encoder.shortest` is expected to be at least 1, but got 0",
        ),
        (
            {"shortest": 3, "longest": 2},
            "`model.selector.encoder.longest` is expected to be at least 3, but got 2",
        ),
    ],
)
def test_bad_settings(settings: dict[str, int], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        HashedNgramEncoder(**settings)
