import itertools

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from lit_fed.metrics import (
    ClientJensenShannon,
    ClientTfidfCosine,
    text_jensen_shannon,
    text_tfidf_cosine,
)

CLIENTS = [
    ["the fox ran over the hill", "a fox slept"],
    ["the dog slept", "over the hill and far away", "the dog"],
    ["ships sail far away over the sea"],
]
TOKENS = r"[a-z]+"


def over_pairs(table: np.ndarray) -> float:
    return float(np.mean([table[i, j] for i, j in itertools.combinations(range(len(table)), 2)]))


def test_jensen_shannon_equals_scipy() -> None:
    counts = CountVectorizer(token_pattern=TOKENS).fit_transform(map(" ".join, CLIENTS)).toarray()
    table = np.array([[jensenshannon(p, q, base=2) ** 2 for q in counts] for p in counts])
    assert text_jensen_shannon(CLIENTS).item() == pytest.approx(over_pairs(table), abs=1e-6)


def test_tfidf_equals_scikit_learn() -> None:
    vectorizer = TfidfVectorizer(token_pattern=TOKENS).fit(itertools.chain(*CLIENTS))
    means = np.stack([vectorizer.transform(own).toarray().mean(0) for own in CLIENTS])
    expected = over_pairs(cosine_similarity(means))
    assert text_tfidf_cosine(CLIENTS).item() == pytest.approx(expected, abs=1e-6)


def test_the_same_words_and_no_word_in_common() -> None:
    same, apart = [["a b", "c"], ["c a", "b"]], [["a b"], ["c"]]
    assert text_jensen_shannon(same).item() == pytest.approx(0.0, abs=1e-9)
    assert text_jensen_shannon(apart).item() == pytest.approx(1.0)
    assert text_tfidf_cosine([["a b"], ["b A"]]).item() == pytest.approx(1.0)
    assert text_tfidf_cosine(apart).item() == 0.0


def test_neither_the_clients_order_nor_that_of_their_texts_matters() -> None:
    turned = [own[::-1] for own in CLIENTS[::-1]]
    for function in (text_jensen_shannon, text_tfidf_cosine):
        assert function(turned).item() == pytest.approx(function(CLIENTS).item(), abs=1e-6)


@pytest.mark.parametrize("kind", [ClientJensenShannon, ClientTfidfCosine])
def test_the_metric_is_the_function_and_leaves_out_who_says_nothing(
    kind: type[ClientJensenShannon] | type[ClientTfidfCosine],
) -> None:
    metric = kind(num_clients=5)
    for client in (2, 0, 1):
        for text in CLIENTS[client]:
            metric.update([text], client)
    metric.update(["", "!"], client=3)
    function = text_jensen_shannon if kind is ClientJensenShannon else text_tfidf_cosine
    assert metric.compute().item() == pytest.approx(function(CLIENTS).item(), abs=1e-6)
    alone = kind(num_clients=2)
    alone.update(["a word"], client=0)
    alone.update([], client=1)
    assert alone.compute().isnan()
    with pytest.raises(ValueError, match="`client` is expected to be an integer from 0 to 1, but"):
        alone.update(["a"], client=2)
