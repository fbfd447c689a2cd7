"""The work in lit_fed.

``python -m tests.benchmarks.rivals.lit_fed_run --work C --threads 1 --execution VectorizedClients
--clients-at-once 8 [--processes 2]``. Several processes are ``DistributedClients`` of the execution. As the other
programs, it writes no checkpoints, logs and progress.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

from tests.benchmarks.rivals import job


def main() -> None:
    options = job.parser()
    options.add_argument("--execution", default="SequentialClients")
    options.add_argument("--clients-at-once", type=int)
    options = options.parse_args()
    job.begin(options)

    import torch
    from lightning.pytorch import Callback
    from safetensors.torch import load_file

    from lit_fed import FedAvg, FederatedTrainer
    from lit_fed.backbones import CausalLM, SequenceClassifier

    torch.set_num_threads(options.threads)
    kind = SequenceClassifier if options.work == "C" else CausalLM
    backbone = kind(str(options.folder), peft=job.lora(options.work))
    backbone.load_trainable(load_file(options.folder / "initial.safetensors"))

    class Clock(Callback):
        def on_fit_start(self, trainer: Any, module: Any) -> None:
            self.seconds = -time.perf_counter()

        def on_round_end(self, trainer: Any, module: Any, metrics: dict[str, float]) -> None:
            if trainer.current_round == options.rounds:
                self.seconds += time.perf_counter()

    clock = Clock()
    with tempfile.TemporaryDirectory() as root:
        trainer = FederatedTrainer(
            max_rounds=options.rounds,
            local_steps=options.steps,
            gradient_clip_val=job.CLIP,
            seed=0,
            accelerator="cpu",
            devices=options.processes,
            execution=_execution(options),
            callbacks=[clock],
            loggers=False,
            default_root_dir=root,
            enable_progress_bar=False,
            enable_checkpointing=False,
        )
        method = FedAvg(
            backbone, optimizer=lambda p: torch.optim.AdamW(p, lr=job.LR), warmup_steps=0
        )
        trainer.fit(method, _data(options))
    if trainer.is_global_zero:
        job.report(clock.seconds, trainer.federation.broadcast.tensors, options.folder)


def _execution(options: Any) -> Any:
    """The class of lit_fed.federation by its name, in as many processes as asked for."""
    from lit_fed import federation

    settings = {"clients_at_once": options.clients_at_once} if options.clients_at_once else {}
    execution = getattr(federation, options.execution)(**settings)
    return federation.DistributedClients(execution) if options.processes > 1 else execution


def _data(options: Any) -> Any:
    """The clients' rows as texts; batches come in the rows' order, as in the other programs."""
    from datasets import Dataset

    from lit_fed.data import (
        CausalLMEncoding,
        ClassificationEncoding,
        FederatedDataModule,
        NaturalPartitioner,
    )

    class InOrder(FederatedDataModule):
        def dataloader(
            self, rows: Any, tokenizer: Any, seed: Any = None, batch_size: Any = None
        ) -> Any:
            return super().dataloader(rows, tokenizer, None, batch_size or self.batch_size)

    tokens, labels = job.load_rows(options.folder)
    if options.work == "G":  # the encoding ends a text by itself
        tokens = tokens[:, :, :-1]
    texts = [" ".join(f"w{t}" for t in row) for row in tokens.flatten(0, 1).tolist()]
    clients = [client for client in range(len(tokens)) for _ in range(tokens.shape[1])]
    columns = {"text": texts, "label": labels.flatten().tolist(), "author": clients}
    size = job.WORKS[options.work]
    return InOrder(
        train=Dataset.from_dict(columns),
        encoding=ClassificationEncoding("text", text_pair=None)
        if options.work == "C"
        else CausalLMEncoding("{text}", response="text"),
        partitioner=NaturalPartitioner("author"),
        num_clients=options.clients,
        batch_size=size.batch,
        max_length=size.length,
        validation_fraction=0.0,
        seed=0,
    )


if __name__ == "__main__":
    main()
