import pytest
import torch

from lit_fed.metrics import CommunicationVolume


def test_by_hand() -> None:
    volume = CommunicationVolume(reference=200)
    for round in range(3):
        for _ in range(4):
            volume.update(up=10, down=15, round=round)
    values = {name: value.item() for name, value in volume.compute().items()}
    expected = {"up": 120, "down": 180, "total": 300, "per_round": 100.0, "ratio": 0.5}
    assert values == expected


def test_no_ratio_without_a_reference() -> None:
    volume = CommunicationVolume()
    volume.update(up=1, down=1, round=0)
    assert set(volume.compute()) == {"up", "down", "total", "per_round"}


def test_rounds_need_not_start_at_0_and_may_be_silent() -> None:
    volume = CommunicationVolume()
    volume.update(up=30, down=0, round=7)
    volume.update(up=30, down=0, round=5)
    assert volume.compute()["per_round"].item() == 20.0
    volume.reset()
    volume.update(up=30, down=0, round=9)
    assert volume.compute()["per_round"].item() == 30.0


def test_terabytes_are_exact() -> None:
    volume = CommunicationVolume()
    volume.update(up=2**45, down=2**45 + 1, round=0)
    volume.update(up=1, down=0, round=0)
    values = volume.compute()
    assert (values["up"].item(), values["total"].item()) == (2**45 + 1, 2**46 + 2)
    assert values["total"].dtype == torch.int64


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_empty() -> None:
    values = CommunicationVolume(reference=10).compute()
    assert values["total"].item() == 0
    assert values["per_round"].isnan()
    assert values["ratio"].isnan()


def test_forward_gives_the_batch() -> None:
    volume = CommunicationVolume()
    assert volume(up=10, down=0, round=0)["total"].item() == 10
    assert volume(up=30, down=0, round=1)["per_round"].item() == 30.0
    assert volume.compute()["per_round"].item() == 20.0


def test_bad_input() -> None:
    volume = CommunicationVolume()
    with pytest.raises(ValueError, match="`up` is expected to be at least 0, but got -1"):
        volume.update(up=-1, down=0, round=0)
    with pytest.raises(TypeError, match=r"`down` is expected to be an integer, but got 1.5"):
        volume.update(up=1, down=1.5, round=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`round` is expected to be at least 0, but got -1"):
        volume.update(up=1, down=1, round=-1)
    with pytest.raises(ValueError, match="`reference` is expected to be at least 1, but got 0"):
        CommunicationVolume(reference=0)
    assert volume.up.item() == volume.down.item() == 0
