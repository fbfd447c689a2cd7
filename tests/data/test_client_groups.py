"""Clients whose figures are reported together."""

import re

import pytest
from datasets import Dataset

from lit_fed.data import ClassificationEncoding, FederatedDataModule
from lit_fed.data.client_data import ClientData
from lit_fed.data.client_groups import grouped, require_groups

ROWS = Dataset.from_dict({"text": list("abcdefgh"), "label": [0, 1] * 4})


def clients(groups: dict[str, list[str]] | None, pool_clients: bool = False) -> list[ClientData]:
    data = FederatedDataModule(
        ROWS,
        encoding=ClassificationEncoding("text", None),
        num_clients=3,
        validation_fraction=0,
        client_groups=groups,
        pool_clients=pool_clients,
    )
    data.setup()
    return data.clients


def test_who_is_in_none_is_among_the_others() -> None:
    found = clients({"small": ["client-2"], "south": ["client-0"]})
    assert [client.group for client in found] == ["south", "others", "small"]
    assert [client.group for client in clients(None)] == [None] * 3
    # of everyone's rows in one place, nobody is apart
    assert [client.group for client in clients({"small": ["client-2"]}, pool_clients=True)] == [
        None
    ]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"others": ["a"]},
            "none of them one of others, predict, test, train, val, but got 'others'",
        ),
        ({"test": ["a"]}, "but got 'test'"),
        ({"a/b": ["a"]}, "names of letters, digits and _, .* but got 'a/b'"),
        ({"north": []}, "is expected to name clients, but 'north' has none"),
        ({"north": ["a"], "south": ["b", "a"]}, "but 'a' is in 'north' and 'south'"),
        ({"north": ["a", "a"]}, "but 'a' is in 'north' and 'north'"),
    ],
)
def test_bad_groups_are_refused(groups: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_groups(groups)
    with pytest.raises(ValueError, match=message):
        FederatedDataModule(ROWS, client_groups=groups)


def test_a_client_that_there_is_not() -> None:
    message = "which are client-0, client-1, client-2, but names 'client-3'"
    with pytest.raises(ValueError, match=re.escape(message)):
        clients({"south": ["client-3", "client-0"]})
    with pytest.raises(ValueError, match="names 'b'"):
        grouped([ClientData("a", ROWS)], {"south": ["b"]})
