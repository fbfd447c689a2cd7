import itertools
import math
import time
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

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


def many_clients(clients: int, common: int, own: int, seed: int = 0) -> list[list[str]]:
    """Two texts of each client: words that many have, a few of them often, and words of its own."""
    generator = np.random.default_rng(seed)
    drawn = np.minimum(generator.zipf(1.3, (clients, 2, 60)), common)
    return [
        [" ".join([*(f"w{n}" for n in text), *(f"c{k}x{n}" for n in range(own))]) for text in texts]
        for k, texts in enumerate(drawn)
    ]


def test_word_by_word_equals_pair_by_pair() -> None:
    """By the formulas over dense tables of clients and words."""
    texts = many_clients(30, common=400, own=2)
    counts = [Counter(" ".join(own).split()) for own in texts]
    vocabulary = sorted(set().union(*counts))
    shares = np.array([[count[word] / count.total() for word in vocabulary] for count in counts])

    def nats(p: np.ndarray, q: np.ndarray) -> float:
        inside = p > 0
        return float((p[inside] * np.log(p[inside] / q[inside])).sum())

    divergences = [
        (nats(p, (p + q) / 2) + nats(q, (p + q) / 2)) / (2 * math.log(2))
        for p, q in itertools.combinations(shares, 2)
    ]
    assert text_jensen_shannon(texts).item() == pytest.approx(np.mean(divergences), rel=1e-6)
    vectorizer = TfidfVectorizer(analyzer=str.split)
    vectors = vectorizer.fit_transform(itertools.chain(*texts)).toarray().reshape(30, 2, -1).mean(1)
    expected = over_pairs(cosine_similarity(vectors))
    assert text_tfidf_cosine(texts).item() == pytest.approx(expected, rel=1e-6)


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that torch makes."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.mark.parametrize("function", [text_jensen_shannon, text_tfidf_cosine])
def test_a_thousand_clients_take_seconds_and_no_table_of_clients_and_words(function: Any) -> None:
    texts = many_clients(1000, common=4000, own=20)
    table = 1000 * 20_000  # numbers of a dense one, without the words in common
    before = time.process_time()
    assert 0 < function(texts).item() < 1
    assert time.process_time() - before < 5
    tracemalloc.start()  # of NumPy and SciPy
    with Largest() as largest:
        function(texts)
    assert tracemalloc.get_traced_memory()[1] < 8 * table / 2
    assert largest.numbers < table / 20
    tracemalloc.stop()
