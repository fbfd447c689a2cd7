from datasets import Dataset
from rich.console import Console

from lit_fed.data import ClientData
from lit_fed.data.partition_table import partition_table


def printed(table: object) -> list[list[str]]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    lines = [line for line in capture.get().splitlines() if "│" in line or "┃" in line]
    return [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in lines]


def client(name: str, labels: list[object], held_out: int = 0) -> ClientData:
    validation = Dataset.from_dict({"label": [0] * held_out}) if held_out else None
    return ClientData(name, Dataset.from_dict({"label": labels}), validation)


def test_rows_and_labels_are_counted() -> None:
    table = partition_table([client("a", ["x", "y", "x"], 2), client("b", ["y"])], "label")
    assert printed(table) == [
        ["client", "rows", "held out", "label x", "label y"],
        ["a", "3", "2", "2", "1"],
        ["b", "1", "0", "0", "1"],
        ["all 2", "4", "2", "2", "2"],
    ]


def test_many_labels_and_many_clients_are_summed_up() -> None:
    clients = [client(f"c{i}", list(range(i, i + 5))) for i in range(20)]
    lines = printed(partition_table(clients, "label", max_clients=2))
    assert lines == [
        ["client", "rows", "distinct label"],
        ["c0", "5", "5"],
        ["c1", "5", "5"],
        ["and 18 more", "", ""],
        ["all 20", "100", "24"],
    ]


def test_without_labels() -> None:
    assert printed(partition_table([client("a", [1])], None)) == [
        ["client", "rows"],
        ["a", "1"],
        ["all 1", "1"],
    ]
