"""Time and memory of a round with 4 to 1,000 clients, as curves.

``python -m pytest -m benchmark -s tests/benchmarks/test_scale.py``, about four minutes on an idle core. Each point is
the second round of a process of its own: two steps of every client on a BERT of two layers and width 64.
``LIT_FED_SCALE_CLIENTS`` gives other numbers of clients, such as ``2,4`` to try it out; bounds are then printed,
not checked.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from lit_fed import federation
from tests.benchmarks.round_of_clients import LENGTH, STEPS, VOCABULARY

ROOT = Path(__file__).parents[2]
GIVEN = os.environ.get("LIT_FED_SCALE_CLIENTS")
COUNTS = [int(count) for count in (GIVEN or "4,16,64,256,1000").split(",")]
BUDGET = 1.0  # MB of clients' states in memory
GROWTH = 1.5  # how much more a client-step may take among all clients than among few

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc"
    ),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with one token a word."""
    folder = tmp_path_factory.mktemp("model")
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]"])}
    words |= {f"w{i}": i + 2 for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def run(clients: int, model: Path, run: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.round_of_clients", str(clients)]
    child = subprocess.run(
        [*command, str(model), str(run), *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    line = next(line for line in child.stdout.splitlines() if line.startswith('{"seconds"'))
    return dict(json.loads(line))


EXECUTIONS = {
    "SequentialClients": (),
    "VectorizedClients": ("--execution", "VectorizedClients", "--clients-at-once", "8"),
}


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_client_step_costs_the_same_among_many(
    tmp_path: Path, model: Path, execution: str
) -> None:
    if not hasattr(federation, execution):
        pytest.skip(f"this lit_fed.federation has no {execution}")
    found = {k: run(k, model, tmp_path / str(k), *EXECUTIONS[execution]) for k in COUNTS}
    each = {k: point["seconds"] / (k * STEPS) for k, point in found.items()}
    more = {
        b: (found[b]["peak"] - found[a]["peak"]) / (b - a) for a, b in itertools.pairwise(COUNTS)
    }
    adapter = found[COUNTS[0]]["adapter"]
    print(f"\n\n{execution}; a client's adapter has {adapter / 2**10:.1f} KiB\n")
    print("| clients | ms per client-step | peak MB | KiB for each further client |")
    print("|---|---|---|---|")
    for k, point in found.items():
        further = f"{more[k] / 2**10:.1f}" if k in more else ""
        print(f"| {k:,} | {1000 * each[k]:.2f} | {point['peak'] / 2**20:.0f} | {further} |")
    # Eight clients and more fill a batch of VectorizedClients.
    few = min(each[k] for k in COUNTS[:-1] if k >= 8 or GIVEN)
    assert GIVEN or each[COUNTS[-1]] <= GROWTH * few


def test_states_beyond_a_budget_lie_in_files(tmp_path: Path, model: Path) -> None:
    """Clients that keep AdamW's two moments, with and without ``client_state_mb``."""
    clients, keep = COUNTS[-1], "--keep-moments"
    free = run(clients, model, tmp_path / "free", keep)
    bound = run(clients, model, tmp_path / "bound", keep, "--client-state-mb", f"{BUDGET}")
    print(f"\n\n{clients:,} clients that keep their moments, SequentialClients\n")
    print("| client_state_mb | ms per client-step | peak MB | MB in files |")
    print("|---|---|---|---|")
    for name, point in (("none", free), (f"{BUDGET:g}", bound)):
        milliseconds = 1000 * point["seconds"] / (clients * STEPS)
        peak, spilled = point["peak"] / 2**20, point["spilled"] / 2**20
        print(f"| {name} | {milliseconds:.2f} | {peak:.0f} | {spilled:.1f} |")
    states = clients * 2 * free["adapter"]
    assert free["spilled"] == 0
    assert GIVEN or bound["spilled"] >= states - BUDGET * 2**20
    assert GIVEN or free["peak"] - bound["peak"] >= 0.5 * states
