"""How alike the texts of clients are: by how often they have each word, and by TF-IDF."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_fed.metrics.arguments import index_within, positive_integer
from lit_fed.metrics.collected_texts import CollectedTexts
from lit_fed.metrics.text_arguments import require_texts
from lit_fed.metrics.words import words


def text_jensen_shannon(texts: Sequence[Sequence[str]]) -> Tensor:
    r"""The mean Jensen-Shannon divergence between clients' distributions of words, over all pairs of clients.

    .. math:: \frac{1}{2 \ln 2}\left[KL(p \| m) + KL(q \| m)\right], \quad m = (p + q) / 2

    p and q are the shares of each word in all of a client's texts. Its square root is what SciPy calls the
    Jensen-Shannon distance (base 2). What is missing to 1 are terms of the words that both clients of a pair have; so
    it is summed up word by word, over the pairs of clients that have the word.

    Args:
        texts: Each client's texts. Clients without a word are left out.

    Returns:
        A scalar from 0, for the same distributions, to 1, for those that share no word; NaN with fewer than two
        clients.

    Example:
        >>> text_jensen_shannon([["a b"], ["a", "b b a"], ["c"]])
        tensor(0.6667)
    """
    counts = [Counter(word for text in own for word in words(text)) for own in texts]
    counts = [count for count in counts if count]
    if len(counts) < 2:
        return torch.tensor(torch.nan)
    shares: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
    for count in counts:
        for word, number in count.items():
            shares[word].append(number / count.total())
    # words that equally many clients have are one table
    alike: defaultdict[int, list[Tensor]] = defaultdict(list)
    for own in shares.values():
        if len(own) > 1:
            alike[len(own)].append(torch.frombuffer(own, dtype=torch.float64))
    nats = sum(shared_nats(torch.stack(table)) for table in alike.values())
    pairs = len(counts) * (len(counts) - 1) / 2
    divergence = 1 - torch.as_tensor(nats) / (2 * math.log(2) * pairs)
    return divergence.clamp(0, 1).to(torch.get_default_dtype())


def shared_nats(shares: Tensor) -> Tensor:
    r"""What words that clients have in common add to their similarity, over all pairs of these clients.

    .. math:: \sum_w \sum_{i < j} p_{wi} \ln\frac{p_{wi} + p_{wj}}{p_{wi}} + p_{wj} \ln\frac{p_{wi} + p_{wj}}{p_{wj}}

    Args:
        shares: p, the share of each word in the texts of each client that has it, above 0, [words, clients].

    Returns:
        A scalar, in nats; of one pair with equal shares all of which are here it is 2 ln 2.

    Example:
        >>> shared_nats(torch.tensor([[0.5, 0.5], [0.5, 0.5]])) / math.log(2)
        tensor(2.)
    """
    clients = shares.shape[1]
    nats = -(clients - 1) * torch.xlogy(shares, shares).sum()
    # each pair once: those that stand one apart, two apart and so on
    for apart in range(1, clients):
        both = shares[:, apart:] + shares[:, :-apart]
        nats += torch.xlogy(both, both).sum()
    return nats


def text_tfidf_cosine(texts: Sequence[Sequence[str]]) -> Tensor:
    """The mean cosine between clients' TF-IDF vectors, over all pairs of clients, by scikit-learn.

    Each text is a document; the vectors are those of :class:`sklearn.feature_extraction.text.TfidfVectorizer` (smooth
    inverse frequencies over the texts of all clients, unit length), with the words of :func:`~lit_fed.metrics.words`.
    A client is the mean of its texts' vectors.

    Args:
        texts: Each client's texts. Clients without a word are left out.

    Returns:
        A scalar from 0, where no two clients share a word, to 1; NaN with fewer than two clients.

    Example:
        >>> text_tfidf_cosine([["a b"], ["b a"], ["c"]])
        tensor(0.3333)
    """
    told = [[text for text in own if words(text)] for own in texts]
    told = [own for own in told if own]
    if len(told) < 2:
        return torch.tensor(torch.nan)
    import numpy as np
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    every = [text for own in told for text in own]
    vectors = TfidfVectorizer(analyzer=words).fit_transform(every)
    clients = np.repeat(np.arange(len(told)), [len(own) for own in told])
    sums = csr_matrix((np.ones(len(every)), (clients, np.arange(len(every))))) @ vectors
    units = normalize(sums)
    # as mean_pairwise_cosine, of which a dense matrix of clients and words would be too large
    total = np.square(units.sum(axis=0)).sum() - units.multiply(units).sum()
    cosine = torch.tensor(total / (len(told) * (len(told) - 1)), dtype=torch.float64)
    return cosine.clamp(0, 1).to(torch.get_default_dtype())


class ClientTexts(CollectedTexts):
    """What compares the texts of clients. All texts are kept until ``reset``.

    Args:
        num_clients: Number K of clients in the federation.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``num_clients`` is no integer.
        ValueError: If ``num_clients`` is below 1.
    """

    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, num_clients: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_clients = positive_integer("num_clients", num_clients)

    def update(self, texts: Sequence[str], client: int) -> None:
        """Adds texts of one client; calls for the same client add up.

        Args:
            texts: The texts.
            client: The client's index, from 0.

        Raises:
            TypeError: If ``texts`` is no sequence of texts, or ``client`` no integer.
            ValueError: If ``client`` is no client.
        """
        index = index_within("client", client, 0, self.num_clients)
        self.collect(require_texts("texts", texts), index)

    def texts_by_client(self) -> list[list[str]]:
        """All texts of each client, in an order that does not depend on that of the updates."""
        found: list[list[str]] = [[] for _ in range(self.num_clients)]
        for client, text in self.collected():
            found[client].append(text)
        return [sorted(own) for own in found]


class ClientJensenShannon(ClientTexts):
    """Mean Jensen-Shannon divergence between clients' distributions of words, from 0 to 1: 0 where they are the same.

    Lin, "Divergence measures based on the Shannon entropy" (1991), https://doi.org/10.1109/18.61115, in units of
    its largest value, ln 2; see :func:`text_jensen_shannon`. Clients without a word are left out. Fewer words look
    further apart, so compare data of similar size.

    NaN (nothing to tell): fewer than two clients have a word.

    Args:
        num_clients: Number K of clients in the federation.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``num_clients`` is no integer.
        ValueError: If ``num_clients`` is below 1.

    Example:
        >>> metric = ClientJensenShannon(num_clients=2)
        >>> metric.update(["a b"], client=0)
        >>> metric.update(["a", "c"], client=1)
        >>> metric.compute()
        tensor(0.5000)
    """

    higher_is_better = None

    def compute(self) -> Tensor:
        """The divergence, a scalar."""
        return text_jensen_shannon(self.texts_by_client()).to(self.device)


class ClientTfidfCosine(ClientTexts):
    """Mean cosine between clients' TF-IDF vectors, from 0 to 1: 1 where they have the same words as often.

    By scikit-learn, see :func:`text_tfidf_cosine`. Clients without a word are left out.

    NaN (nothing to tell): fewer than two clients have a word.

    Args:
        num_clients: Number K of clients in the federation.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``num_clients`` is no integer.
        ValueError: If ``num_clients`` is below 1.

    Example:
        >>> metric = ClientTfidfCosine(num_clients=2)
        >>> metric.update(["a b"], client=0)
        >>> metric.update(["b a"], client=1)
        >>> round(metric.compute().item(), 4)
        1.0
    """

    higher_is_better = None

    def compute(self) -> Tensor:
        """The cosine, a scalar."""
        return text_tfidf_cosine(self.texts_by_client()).to(self.device)
