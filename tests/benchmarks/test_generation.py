"""Tokens a second of `CausalLM.generate` beside transformers' own `generate`, with the same batch, by turns.

``python -m pytest -m benchmark -s tests/benchmarks/test_generation.py``. The embedded decoder with LoRA, 16 prompts
of the embedded instructions, 64 new tokens of each; ``BENCHMARK_DECODER`` names the folder of another one.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lit_fed.backbones import CausalLM, Sampling
from lit_fed.data import EmbeddedInstructions

ROWS, NEW_TOKENS, TURNS = 16, 64, 7
# every answer has as many tokens, so that both do the same work
LENGTH = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def backbone() -> CausalLM:
    return CausalLM(os.environ.get("BENCHMARK_DECODER")).eval()


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    rows = EmbeddedInstructions("test", size=ROWS).load()
    texts = zip(rows["instruction"], rows["context"], strict=True)
    return [
        f"<|user|>{instruction}\n{context}<|end|><|assistant|>" for instruction, context in texts
    ]


@torch.no_grad()
def by_transformers(backbone: CausalLM, prompts: list[str], **settings: Any) -> list[str]:
    tokenizer = backbone.tokenizer
    batch = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    batch.pop("token_type_ids", None)
    output = backbone.model.generate(
        **batch, pad_token_id=tokenizer.pad_token_id, **LENGTH, **settings
    )
    new = output[:, batch["input_ids"].shape[1] :]
    texts: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("greedy", {}, {"do_sample": False}),
        ("greedy, with stop strings", {"stop": ["unheard of", "\n\n\n"]}, {"do_sample": False}),
        (
            "sampled",
            {"sampling": Sampling(0.95, top_k=50, top_p=0.7)},
            {"do_sample": True, "temperature": 0.95, "top_k": 50, "top_p": 0.7},
        ),
    ],
)
def test_tokens_a_second(
    backbone: CausalLM,
    prompts: list[str],
    name: str,
    ours: dict[str, Any],
    theirs: dict[str, Any],
) -> None:
    runs: dict[str, Callable[[], list[str]]] = {
        "lit_fed": lambda: backbone.generate(prompts, batch_size=ROWS, **LENGTH, **ours),
        "transformers": lambda: by_transformers(backbone, prompts, **theirs),
    }
    answers = {who: run() for who, run in runs.items()}
    if name == "greedy":
        assert answers["lit_fed"] == answers["transformers"]
    # of the processor, since others use it as well
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    speeds: dict[str, list[float]] = {who: [] for who in runs}
    for turn in range(TURNS):
        for who in list(runs)[:: 1 - 2 * (turn % 2)]:
            start = clock()
            runs[who]()
            speeds[who].append(ROWS * NEW_TOKENS / (clock() - start))
    ratio = statistics.median(a / b for a, b in zip(*speeds.values(), strict=True))
    told = ", ".join(f"{who} {statistics.median(found):,.0f}" for who, found in speeds.items())
    print(f"\n{name}: tokens a second: {told}; {ratio:.2f} times")
    assert ratio >= 0.9
