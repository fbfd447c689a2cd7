"""Peak resident bytes of one run: ``memory_of_clients.py <clients> <keep optimizer state> <model> <run>``."""

import resource
import sys
from pathlib import Path

from tests.benchmarks.work import data, method, trainer

RANK, ROWS = 64, 8

if __name__ == "__main__":
    clients, keep, model, run = (
        int(sys.argv[1]),
        sys.argv[2] == "1",
        Path(sys.argv[3]),
        Path(sys.argv[4]),
    )
    module = method(model, RANK)
    trainer(run, 2, local_steps=2, keep_optimizer_state=keep).fit(module, data(clients, ROWS))
    adapter = sum(p.numel() * p.element_size() for p in module.backbone.trainable().values())
    print("RESULT", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, adapter)
