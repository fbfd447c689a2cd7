"""What one rule costs the server: ``server_of_rules.py <rule> <clients> <shape> <repeats> <MB in memory or none>``.

Prints seconds of an aggregation, and with what is measured of its result, and by how much the process's own memory
(RssAnon and RssShmem, what the system cannot have back) rises: while the uploads come, while they are aggregated, and
while the result is measured.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from lit_fed import FedAvg, Payload, aggregation
from lit_fed.backbones.backbone import Backbone
from lit_fed.backbones.embedded import embedded_model
from lit_fed.backbones.pretrained import Pretrained
from lit_fed.client import Client
from lit_fed.federation.run.round_uploads import RoundUploads
from lit_fed.update import Update

RANK = 16
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPES: dict[str, dict[str, int]] = {
    # Llama-3.2-1B
    "1b": {
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "small": {
        "num_hidden_layers": 4,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    },
}


class Shapes(Backbone):
    """A decoder of which there are the factors alone: of the base nothing is written, so that it takes no memory."""

    def forward(self, batch: Any, output_hidden: bool = False) -> Any:
        raise NotImplementedError


def shapes(kind: str) -> Shapes:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=1000, **SHAPES[kind])).bfloat16()
    model.to_empty(device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(embedded_model("decoder"))
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LINEAR)
    backbone = Shapes(Pretrained(model, tokenizer, ()), config, "CAUSAL_LM", False, None)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.trainable().values():
            parameter.normal_(std=0.02)
    return backbone


def own_memory() -> int:
    """Bytes that the system cannot have back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    # a payload's own mapping counts as shared
    kinds = ("RssAnon", "RssShmem")
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(kinds))


class Peak:
    """Looks at the process's own memory every few milliseconds."""

    def __enter__(self) -> Peak:
        self.before = self.most = own_memory()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.003):
            self.most = max(self.most, own_memory())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, own_memory())

    @property
    def risen(self) -> int:
        return self.most - self.before


def main(rule: str, clients: int, kind: str, repeats: int, budget: float | None) -> None:
    backbone = shapes(kind)
    chosen = getattr(aggregation, rule)()
    module = FedAvg(backbone, chosen)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        uploads = RoundUploads(None if budget is None else budget * 2**20, Path(folder))
        sent: list[Update] = []
        with Peak() as coming:
            for k in range(clients):
                client = Client(f"client-{k}", k, 10 + k % 7, round=0, rounds=0, steps=0)
                module.act_as(client)
                changed = {
                    name: tensor.detach() + 0.01 * torch.randn_like(tensor)
                    for name, tensor in module.upload().tensors.items()
                }
                upload = uploads.kept(Payload(changed))
                sent.append(Update(client.id, upload, client.num_samples))
        module.act_as(None)
        start = module.initial_broadcast()
        module.download(start)
        rule_alone, whole = [], []
        with Peak() as combining:
            for _ in range(repeats):
                began = time.perf_counter()
                made = chosen(sent, start.main)
                rule_alone.append(time.perf_counter() - began)
        with Peak() as measuring:
            for _ in range(repeats):
                began = time.perf_counter()
                module.aggregate(sent)
                module.server_metrics()
                whole.append(time.perf_counter() - began)
        up = sent[0].nbytes
    print(
        "RESULT",
        statistics.median(rule_alone),
        statistics.median(whole),
        up,
        made.nbytes,
        coming.risen,
        combining.risen,
        measuring.risen,
    )


if __name__ == "__main__":
    name, count, shape, times, megabytes = sys.argv[1:]
    main(name, int(count), shape, int(times), None if megabytes == "none" else float(megabytes))
