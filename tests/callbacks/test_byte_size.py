import pytest

from lit_fed.callbacks.byte_size import byte_size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (3.2e9, "3.2 GB"),
        (5e12, "5.0 TB"),
        (7e15, "7.0 PB"),
        (7e18, "7000.0 PB"),
    ],
)
def test_units(count: float, text: str) -> None:
    assert byte_size(count) == text
