"""Make the embedded decoder: train a small Llama on the instruction world, measure it, and write its folder.

    nice python -m tools.embedded.make_decoder --checkpoint decoder.pt

A run that was stopped goes on from its checkpoint. The result depends on the arguments and the versions of
the libraries alone: one thread, and rows that are drawn by seed and step.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_fed.data.embedded.instructions import INSTRUCTION_TASKS, instruction_world
from tools.embedded.decoder_report import report, solved
from tools.embedded.decoder_rows import IGNORED, KINDS, batch, held_out
from tools.embedded.decoder_tokenizer import decoder_tokenizer
from tools.embedded.muon import Muon

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "lit_fed/backbones/embedded/decoder"
REPORT = Path(__file__).with_name("decoder_report.json")

MAX_LENGTH = 256
# Conversations of each kind in a step.
ROWS = {"reading": 8, "sums": 8, "sorting": 6, "rewriting": 10, "own_words": 8, "copying": 8}
WARM_UP = 30
# Over the first steps the texts are short: what is to be copied is then soon found.
EASY = 300
# Weight of the prompts' loss: they repeat words and tell which words are alike. It falls with the learning rate.
PROMPTS = 0.5
# The learning rate falls to nothing over this last share of the steps.
DECAY = 0.5
# Initial values: the part that all embeddings have in common, how much of a token its copy has, how far the
# first layer's first heads look back, by how much they prefer that token, and on how many frequencies.
_COMMON, _COPY, _DISTANCES, _PEAK, _FAST = 0.5, 0.12, (1, 2), 12.0, 4
CHECKPOINT_EVERY = 50
VALIDATE_EVERY = 250


def main() -> None:
    """Train, export and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1.5e-3, help="of embeddings and norms (Adam)")
    parser.add_argument("--matrix_lr", type=float, default=0.008, help="of the matrices (Muon)")
    parser.add_argument("--checkpoint", type=Path, default=Path("decoder.pt"))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--report", type=Path, default=REPORT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = decoder_tokenizer(instruction_world(), MAX_LENGTH)
    model = make_model(tokenizer, arguments.seed)
    seconds = train(model, tokenizer, arguments)
    export(model, tokenizer, arguments.folder)
    settings = {name: vars(arguments)[name] for name in ("steps", "seed", "lr", "matrix_lr")}
    report(arguments.folder, arguments.report, {**settings, "cpu_seconds": round(seconds)})


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of random weights that starts well.

    Copying, of which this world is made, needs heads that work together, and weights of the usual 0.02 learn
    it late. Here they begin with it: keys resemble queries, so that a head attends to what is alike; what a
    head reads it writes unchanged, so that the tied embeddings predict it; and two heads of the first layer
    look back by one token and by two.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=288,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    width, heads = config.hidden_size, config.num_attention_heads
    common = F.normalize(torch.randn(width), dim=0)
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding.normal_(0, width**-0.5).add_(_COMMON * common)
        for depth, layer in enumerate(model.model.layers):
            attention, mlp = layer.self_attn, layer.mlp
            queries = torch.randn(width, width) * width**-0.5
            noise = torch.randn(width, width) * width**-0.5
            attention.q_proj.weight.copy_(queries)
            attention.k_proj.weight.copy_((queries + noise) / math.sqrt(2))
            nn.init.orthogonal_(attention.v_proj.weight)
            # The first layer's copies are written elsewhere, lest a token be taken for its neighbour.
            nn.init.orthogonal_(attention.o_proj.weight)
            if depth:
                attention.o_proj.weight.copy_(attention.v_proj.weight.T)
            attention.o_proj.weight.mul_(_COPY)
            for linear in (mlp.gate_proj, mlp.up_proj):
                linear.weight.normal_(0, width**-0.5)
            mlp.down_proj.weight.normal_(0, _COPY * mlp.down_proj.in_features**-0.5)
            if depth == 0:
                for head, distance in enumerate(_DISTANCES):
                    rows = slice(head * width // heads, (head + 1) * width // heads)
                    query, key = looking_back(distance, width // heads, config)
                    attention.q_proj.weight[rows] = torch.outer(query, common)
                    attention.k_proj.weight[rows] = torch.outer(key, common)
    return model


def looking_back(distance: int, size: int, config: LlamaConfig) -> tuple[Tensor, Tensor]:
    """A constant query and key [size] whose product is largest for the token ``distance`` before."""
    base = config.rope_parameters["rope_theta"]
    turns = base ** -(torch.arange(_FAST) * 2 / size)
    query, key = torch.zeros(2, size)
    strength = math.sqrt(_PEAK * math.sqrt(size) / _FAST)
    # What a common part of the normalised embeddings amounts to.
    scale = _COMMON * math.sqrt(config.hidden_size / (1 + _COMMON**2))
    fast = torch.arange(_FAST)
    query[fast] = strength / scale
    key[fast] = strength / scale * torch.cos(distance * turns)
    key[fast + size // 2] = strength / scale * torch.sin(distance * turns)
    return query, key


def train(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace
) -> float:
    """Train to the last step, from the checkpoint if there is one.

    Returns:
        Seconds of processor time, all starts together.
    """
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    own = set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in own]
    muon = Muon(matrices, lr=arguments.matrix_lr)
    adam = torch.optim.AdamW(others, lr=arguments.lr, betas=(0.9, 0.98), weight_decay=0.0)
    first, spent = 0, 0.0
    if arguments.checkpoint.exists():
        state = torch.load(arguments.checkpoint)
        model.load_state_dict(state["model"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        first, spent = state["step"], state["seconds"]
    began = time.process_time() - spent
    model.train()
    means: dict[str, float] = dict.fromkeys(ROWS, 0.0)
    for step in range(first, arguments.steps):
        rng = random.Random(f"{arguments.seed}/{step}")
        pace = schedule(step, arguments.steps)
        for kind, count in ROWS.items():
            conversations = [KINDS[kind](step < EASY, rng) for _ in range(count)]
            answers, prompts = losses(model, *batch(conversations, tokenizer))
            ((answers + PROMPTS * pace * prompts) / len(ROWS)).backward()
            means[kind] += answers.item() / CHECKPOINT_EVERY
        nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer, lr in ((muon, arguments.matrix_lr), (adam, arguments.lr)):
            for group in optimizer.param_groups:
                group["lr"] = lr * pace
            optimizer.step()
            optimizer.zero_grad()
        done = step + 1
        if done % CHECKPOINT_EVERY == 0 or done == arguments.steps:
            seconds = time.process_time() - began
            _save(arguments.checkpoint, model, muon, adam, done, seconds)
            told = " ".join(f"{kind} {mean:.3f}" for kind, mean in means.items())
            print(
                f"{time.strftime('%H:%M:%S')} step {done} cpu {seconds:.0f} s: {told}", flush=True
            )
            means = dict.fromkeys(ROWS, 0.0)
        if done % VALIDATE_EVERY == 0:
            print(validate(model, tokenizer), flush=True)
    return time.process_time() - began


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate: a warm-up, constant, and a linear fall over the last part."""
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (DECAY * steps))


def losses(model: LlamaForCausalLM, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats of the answers' tokens, and of the prompts'."""
    targets = tokens[:, 1:]
    logits = model(input_ids=tokens).logits[:, :-1]
    each = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    answers = labels[:, 1:] != IGNORED
    prompts = ~answers & (targets != model.config.pad_token_id)
    return each[answers].mean(), each[prompts].mean()


def validate(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> str:
    """Share of right neutral answers by task and language, on a few rows of the validation split."""
    model.eval()
    shares = []
    for name in ("neutral", "neutral_chinese"):
        style = instruction_world().styles[name]
        for task in INSTRUCTION_TASKS:
            rows = held_out("validation", task, style, 40, seed=0)
            shares.append(f"{task}/{style.language} {solved(model, tokenizer, rows):.3f}")
    model.train()
    return " ".join(shares)


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model, in half precision, and tokenizer."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=64,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _save(
    path: Path, model: nn.Module, muon: Muon, adam: torch.optim.AdamW, step: int, seconds: float
) -> None:
    state = {
        "model": model.state_dict(),
        "muon": muon.state_dict(),
        "adam": adam.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    # A run that is stopped while it writes keeps its last checkpoint.
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


if __name__ == "__main__":
    main()
