"""What clients have prepared is kept whole, and is made once more where it is damaged."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_fed import Payload
from lit_fed.federation.run.run import Run

CLIENT: Any = SimpleNamespace(index=3, id="north", round=0)


def test_what_a_client_has_prepared_is_damaged_or_what_it_was(tmp_path: Path) -> None:
    run = Run(tmp_path, {"model": "FedAvg"})
    assert run.prepared(CLIENT) is None
    prepared = Payload({"w": torch.ones(3)})
    run.keep_prepared(CLIENT, prepared)
    assert run.prepared(CLIENT) == prepared
    assert Run(tmp_path, {"model": "another"}).prepared(CLIENT) is None
    later = SimpleNamespace(**vars(CLIENT) | {"round": 2})  # whose model is another
    assert run.prepared(later) is None
    (path,) = (tmp_path / "prepared").iterdir()
    whole = path.read_bytes()
    for place in (0, 30, 64, 80, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.warns(UserWarning, match="is damaged: client 'north' prepares once more"):
            assert run.prepared(CLIENT) is None
