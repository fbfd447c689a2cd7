"""A site: one client's round from bytes to bytes, with its own rows alone: ``<model> <rows> <start> <end>``."""

from __future__ import annotations

import sys
from pathlib import Path

from datasets import Dataset
from lightning.fabric import Fabric

from lit_fed.data import ClassificationEncoding, ClientData, FederatedDataModule
from lit_fed.federation.client.local_settings import LocalSettings
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.client.results import ClientRound
from tests.federation.protocol_methods import TwoAdapters
from tests.federation.toy import fast_adamw, toy_backbone

SETTINGS = {"keep_optimizer_state": True, "accumulate_grad_batches": 2, "local_epochs": 2}


class SiteData(FederatedDataModule):
    """The rows of the only client that this process knows of."""

    def __init__(self, rows: Dataset) -> None:
        encoding = ClassificationEncoding(text="text", text_pair=None)
        super().__init__(rows, encoding=encoding, num_clients=1, batch_size=8, max_length=16)
        self.rows = rows

    def client_data(self, id: str, task: str | None = None) -> ClientData:
        return ClientData(id, self.rows, None)


def main() -> None:
    model, rows, start, end = (Path(given) for given in sys.argv[1:])
    module = TwoAdapters(toy_backbone(model, 0.1), optimizer=fast_adamw, warmup_steps=3)
    data = SiteData(Dataset.load_from_disk(str(rows)))
    data.setup()
    fabric = Fabric(accelerator="cpu", devices=1)
    resident = ResidentModule(module, fabric.setup(module))
    module.fabric = None
    training = LocalTraining(resident, data, fabric, LocalSettings(**SETTINGS))
    begun = ClientRound.from_bytes(start.read_bytes())
    end.write_bytes(training.run(begun.client, begun.broadcast, begun.before).to_bytes())


if __name__ == "__main__":
    main()
