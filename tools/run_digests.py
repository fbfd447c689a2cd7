"""Digests of what every configuration computes: a guard for changes that must not change results.

Run it before and after a refactoring, and compare::

    python tools/run_digests.py --jobs 2 --output before.json
    python tools/run_digests.py --jobs 2 --output after.json
    python tools/run_digests.py --compare before.json after.json

Every method and rule of ``configs/`` and a choice of variants runs at a very small size: one client
after the other, broken off and resumed, two clients at once, and some in two processes. Overlays
whose files are not made here are left out. A case that does not run one client after the other
guards nothing, and ends the command with 1. Of each run
the digests of the adapter, of every checkpoint and of the metrics are kept. They are equal only if
the results are equal bit for bit, on the same machine and with the same versions of torch.

The script knows the command line of ``lit_fed`` and the files of a run, and nothing else of the
library, so that it outlives what it guards. It runs the library that it lies beside.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"

SMALL = (
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.max_rounds=2",
    "--trainer.local_steps=2",
    "--trainer.clients_per_round=1.0",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.loggers=false",
    "--data.num_clients=3",
    "--data.batch_size=4",
    "--data.eval_batch_size=8",
)
VECTORIZED = (
    "--trainer.execution=lit_fed.federation.VectorizedClients",
    "--trainer.execution.clients_at_once=2",
)
TWO_PROCESSES = (
    "--trainer.execution=lit_fed.federation.DistributedClients",
    "--trainer.devices=2",
)
IN_TWO_PROCESSES = (
    "lora_fedavg",
    "fed_prompt",
    "ddg",
    "ddg-peers",
    "ddg-class",
    "ddg_msi-every_step",
)

EMBEDDED_SIZES = {
    "train": 180,
    "validation": 12,
    "test": 12,
    "unseen_names": 12,
    "longer": 12,
    "register": 12,
    "public": 12,
}
WORDS = "a the film day book was very and it this old new long short place"
GOOD, BAD = "good fine warm kind bright", "bad cold dull cruel grey"
TEMPLATE = "text is : ### Instruction Response"

Record = dict[str, dict[str, str]]
"""What is known of a run: for each of its files, the digest or the text of each of its parts."""


# ------------------------------------------------------------------------------------ the cases


@dataclass(frozen=True)
class Case:
    """One configuration at a small size.

    Args:
        name: What the report calls it.
        configs: Files of ``configs/``, each over the one before.
        args: Further arguments of the command line.
        inputs: Which of the ``INPUTS`` it runs on.
    """

    name: str
    configs: tuple[str, ...]
    args: tuple[str, ...] = ()
    inputs: str = "embedded"


def all_cases() -> list[Case]:
    """The cases: the configurations as they are, the overlays, and variants of settings."""
    cases = [
        Case(p.stem, (p.name,), OWN_ARGS.get(p.stem, ()), OWN_INPUTS.get(p.stem, "embedded"))
        for p in sorted(CONFIGS.glob("*.yaml"))
    ]
    cases += [
        Case(f"gpu-{p.stem}", (f"gpu/{p.name}",), inputs="instructions")
        for p in sorted(CONFIGS.glob("gpu/*.yaml"))
    ]
    by_task = ("--trainer.rounds_per_task=1",)
    for method, data, args, inputs in (
        ("lora_fedavg", "embedded_tasks", by_task, "embedded"),
        ("ddg_msi", "embedded_tasks", by_task, "embedded"),
        ("lora_fedavg", "tatoeba", by_task, "tatoeba"),
        ("lora_fedavg", "sst2_trec", by_task, "sst2_trec"),
        ("lora_fedavg", "sst2", ("--data.public_size=10",), "sst2"),
        ("lora_fedavg", "trec", (), "sst2_trec"),
        ("lora_fedavg", "embedded_instructions", (), "none"),
        ("lora_fedavg", "embedded_references", (), "none"),
    ):
        cases.append(
            Case(f"{method}+{data}", (f"{method}.yaml", f"data/{data}.yaml"), args, inputs)
        )
    minilm = ("lora_fedavg.yaml", "data/sst2_trec.yaml", "backbones/minilm.yaml")
    cases.append(Case("lora_fedavg+sst2_trec+minilm", minilm, by_task, "sst2_trec"))
    variants = [*_ddg_variants(), *_injection_variants(), *_trainer_variants()]
    return (
        cases
        + [Case(f"{m}-{name}", (f"{m}.yaml",), args) for m, name, args in variants]
        + [
            Case("lora_fedavg-all_embedded_rows", ("lora_fedavg.yaml",), inputs="none"),
            Case("ddg-causal_lm", ("ddg.yaml",), inputs="causal_lm"),
        ]
    )


ALL_AUTHORS = ("--data.num_clients=10",)
# a run that ends in its warm-up is refused, and would be no guard of a consensus
SOON = ("--model.warmup_rounds=1",)
OWN_ARGS = {
    "fedsdr": ALL_AUTHORS,  # asks each client the test rows of its author
    "flexlora": ALL_AUTHORS,  # names some
    "krum": ALL_AUTHORS,  # wants nine
    "multi_krum": ALL_AUTHORS,
    "semantic_consensus": SOON,
    "semantic_consensus_models": (*SOON, *ALL_AUTHORS),
    "semantic_consensus_text": SOON,
    "soft_consensus": SOON,
}
"""What a configuration needs beside what makes it small."""
OWN_INPUTS = {
    "fedsd": "embedded_instructions",
    "fedsdr": "embedded_instructions",
    "lora_fedavg_instructions": "embedded_instructions",
    "lora_fedavg_sst2": "sst2",
    "prototype_defense": "embedded_mistakes",
    "semantic_consensus_text": "embedded_instructions",
}
"""The ``INPUTS`` of configurations that are not for the embedded pairs."""


Variant = tuple[str, str, tuple[str, ...]]


def _ddg_variants() -> Iterator[Variant]:
    """Where the aggregate predictions live, and what the server does with them."""
    for place in ("Peer", "Class"):
        chosen = f"--model.consensus=lit_fed.methods.ddg.{place}Consensus"
        yield "ddg", {"Peer": "peers", "Class": "class"}[place], (chosen,)
    yield "ddg", "off", ("--model.lambda_aggregate=0",)
    yield "ddg", "server_steps", ("--model.consensus.server_steps=2",)


def _injection_variants() -> Iterator[Variant]:
    """Every perturbation, in every step, and one whose magnitude is learnt."""
    each_step = "--model.inject_every=1"
    for method in ("msi", "ddg_msi"):
        yield method, "every_step", (each_step,)
        for kind in ("DropBlock", "LowRankReconstruction", "WeightNoise"):
            chosen = f"--model.perturbation=lit_fed.perturbations.{kind}"
            yield method, kind, (each_step, chosen)
        yield method, "learn_scale", (each_step, "--model.perturbation.learn_scale=true")


def _trainer_variants() -> Iterator[Variant]:
    """Settings of the trainer that change what a client does or keeps."""
    keep = "--trainer.keep_optimizer_state=true"
    yield "lora_fedavg", "keep_optimizer_state", (keep,)
    yield "lora_fedavg", "client_state_mb", (keep, "--trainer.client_state_mb=0.001")
    yield "lora_fedavg", "accumulate", ("--trainer.accumulate_grad_batches=2",)
    epochs = ("--trainer.local_steps=null", "--trainer.local_epochs=2")
    yield "lora_fedavg", "epochs", epochs
    fraction = ("--data.num_clients=4", "--trainer.clients_per_round=0.5")
    yield "lora_fedavg", "half_of_the_clients", fraction
    validated = (
        "--trainer.validate_clients=true",
        "--data.client_validation_fraction=0.2",
        "--model.aggregation.weights=validation",
    )
    yield "lora_fedavg", "validate_clients", validated
    yield "ddg_msi", "keep_optimizer_state", (keep, "--model.perturbation.learn_scale=true")


# ----------------------------------------------------------------------- small data and models


def embedded_rows(folder: Path) -> list[str]:
    """Few rows of the embedded pairs, as a configuration that comes after the method's."""

    def rows(split: str) -> dict[str, Any]:
        given = {"split": split, "size": EMBEDDED_SIZES[split]}
        return {"class_path": "lit_fed.data.EmbeddedPairs", "init_args": given}

    tests = {split: rows(split) for split in ("test", "unseen_names", "longer", "register")}
    data = {split: rows(split) for split in ("train", "validation", "public")}
    return [_overlay(folder, {"data": {**data, "test": tests, "public_size": 0}})]


def embedded_instruction_rows(folder: Path) -> list[str]:
    """Few of the embedded instructions, as a configuration that comes after the method's."""
    return [_sized(folder, "EmbeddedInstructions", {"train": 90, "validation": 12, "test": 12})]


def embedded_mistake_rows(folder: Path) -> list[str]:
    """Few of the embedded translations, with clean ones enough for prototypes of all classes."""
    sizes = {"train": 180, "validation": 60, "test": 60, "public": 180}
    return [_sized(folder, "EmbeddedMistakes", sizes)]


def _sized(folder: Path, source: str, sizes: dict[str, int]) -> str:
    """A configuration file with so many rows of each split of an embedded source."""
    data = {
        split: {
            "class_path": f"lit_fed.data.{source}",
            "init_args": {"split": split, "size": size},
        }
        for split, size in sizes.items()
    }
    return _overlay(folder, {"data": data})


def all_embedded_rows(folder: Path) -> list[str]:
    """The embedded pairs as they come when no table is named."""
    return []


def sst2_rows(folder: Path) -> list[str]:
    """Files of SST-2's three formats, and a tiny classifier."""
    _sst2_files(folder / "data" / "sst2")
    return [f"--model.backbone.model={_save_bert(folder / 'model')}"]


def sst2_trec_rows(folder: Path) -> list[str]:
    """Files of SST-2 and of TREC, and a tiny encoder."""
    _sst2_files(folder / "data" / "sst2")
    for seed, split in enumerate(("train", "test")):
        lines = [f'{i % (6 - seed)},"{text} ?"' for i, (text, _) in enumerate(_texts(60, seed))]
        _write(folder / "data" / "trec" / f"{split}.csv", lines)
    model = _save_bert(folder / "model")
    few = ["--data.public_size=10", "--data.validation_fraction=0.2"]
    return [f"--model.backbone.model={model}", *few]


def tatoeba_rows(folder: Path) -> list[str]:
    """A file of Tatoeba's format, long enough for all the splits that are cut from it."""
    lines = []
    for i in range(12000):
        english = " ".join([f"w{i}", *["word"] * (1 + i % 9)])
        chinese = f"{'这那這'[i // 9 % 3]}{i}。"
        attribution = f"CC-BY 2.0 (France) Attribution: tatoeba.org #{i} (CK) & #{i} (u{i % 31})"
        lines.append(f"{english}\t{chinese}\t{attribution}")
    _write(folder / "data" / "tatoeba" / "cmn.txt", lines)
    return []


def instruction_rows(folder: Path) -> list[str]:
    """Files of instructions, and a tiny Llama."""
    _instruction_files(folder / "data" / "instructions")
    return [f"--model.backbone.model={_save_llama(folder / 'model')}", "--data.max_length=32"]


def causal_lm_rows(folder: Path) -> list[str]:
    """Instructions and a tiny Llama in the place of a classifier and its rows."""
    rows = folder / "data" / "instructions"
    _instruction_files(rows)

    def table(split: str) -> dict[str, Any]:
        given = {"path": str(rows / f"{split}.jsonl")}
        return {"class_path": "lit_fed.data.JSONLSource", "init_args": given}

    text = {"template": "text : {instruction} is : {response}", "response": "response"}
    data = {
        "train": table("train"),
        "test": table("test"),
        "encoding": {"class_path": "lit_fed.data.CausalLMEncoding", "init_args": text},
        "partitioner": {"class_path": "lit_fed.data.IIDPartitioner"},
        "public_size": 8,
        "max_length": 32,
    }
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    backbone = {
        "model": _save_llama(folder / "model"),
        "peft": {"class_path": "peft.LoraConfig", "init_args": lora},
    }
    model = {"class_path": "lit_fed.backbones.CausalLM", "init_args": backbone}
    return [_overlay(folder, {"model": {"init_args": {"backbone": model}}, "data": data})]


INPUTS: dict[str, Callable[[Path], list[str]]] = {
    "embedded": embedded_rows,
    "embedded_instructions": embedded_instruction_rows,
    "embedded_mistakes": embedded_mistake_rows,
    "none": all_embedded_rows,
    "sst2": sst2_rows,
    "sst2_trec": sst2_trec_rows,
    "tatoeba": tatoeba_rows,
    "instructions": instruction_rows,
    "causal_lm": causal_lm_rows,
}


def _overlay(folder: Path, settings: dict[str, Any]) -> str:
    """A configuration file of these settings; JSON is YAML."""
    path = folder / "overlay.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return f"--config={path}"


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def _texts(count: int, seed: int) -> list[tuple[str, int]]:
    """Texts of 4 to 9 words; the label says whether a good or a bad word is among them."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        words = draw.choices(WORDS.split(), k=draw.randint(3, 8))
        words.insert(draw.randrange(len(words)), draw.choice((GOOD if i % 2 else BAD).split()))
        rows.append((" ".join(words), i % 2))
    return rows


def _sst2_files(folder: Path) -> None:
    for seed, split in enumerate(("train", "dev")):
        lines = [f"{text}\t{label}" for text, label in _texts(60, seed)]
        _write(folder / f"{split}.tsv", ["sentence\tlabel", *lines])
    _write(folder / "test.tsv", [f"{label} {text}" for text, label in _texts(30, 2)])


def _instruction_files(folder: Path) -> None:
    for seed, split in enumerate(("train", "test")):
        rows = [
            {"instruction": text, "response": ("bad", "good")[label]}
            for text, label in _texts(60, seed)
        ]
        _write(folder / f"{split}.jsonl", [json.dumps(row) for row in rows])


def _save_tokenizer(folder: Path) -> int:
    """Save a tokenizer of few words, and return how many it knows."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words = [*marks.values(), "[EOS]", *f"{TEMPLATE} {GOOD} {BAD} {WORDS}".split()]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[EOS]", **marks)
    fast.save_pretrained(folder)
    return len(words)


def _save_bert(folder: Path) -> str:
    """A random BERT of width 32, without a head."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=_save_tokenizer(folder),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


def _save_llama(folder: Path) -> str:
    """A random Llama of width 16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_save_tokenizer(folder),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


# -------------------------------------------------------------------------------------- running


def run_case(case: Case, work: Path) -> dict[str, Record]:
    """Run a case in this process: one client after the other, resumed, and two clients at once.

    Args:
        case: What to run.
        work: The folder that holds the cases' folders.

    Returns:
        The record of each execution.
    """
    logging.disable(logging.INFO)
    folder = work / case.name
    folder.mkdir(parents=True)
    os.chdir(folder)
    args = _arguments(case, folder)
    _write(folder / "arguments.json", [json.dumps(args)])

    def resume(run: Path) -> None:
        _break_off(folder / "sequential", run)
        _fit(run, [*args, "--ckpt_path=last"])

    return {
        "sequential": _recorded(folder / "sequential", lambda run: _fit(run, args)),
        "resumed": _recorded(folder / "resumed", resume),
        "vectorized": _recorded(folder / "vectorized", lambda run: _fit(run, [*args, *VECTORIZED])),
    }


def run_in_two_processes(case: Case, work: Path) -> Record:
    """Run a case that :func:`run_case` has run before once more, its clients on two processes."""
    folder = work / case.name
    args = json.loads((folder / "arguments.json").read_text(encoding="utf-8"))

    def run(root: Path) -> None:
        fit = [*args, *TWO_PROCESSES, f"--trainer.default_root_dir={root}"]
        with (folder / "processes.log").open("w", encoding="utf-8") as log:
            command = [sys.executable, "-m", "lit_fed", "fit", *fit]
            subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=True, timeout=300)

    return _recorded(folder / "processes", run)


def _arguments(case: Case, folder: Path) -> list[str]:
    """The command line of a case, whose data and model are made in the folder."""
    method, *overlays = (f"--config={CONFIGS / name}" for name in case.configs)
    made = INPUTS[case.inputs](folder)
    first = [arg for arg in made if arg.startswith("--config")]
    last = [arg for arg in made if arg not in first]
    return [method, *first, *overlays, *SMALL, *last, *case.args]


def _fit(run: Path, args: list[str]) -> None:
    """Train in this process; what it says goes to a file beside the run's folder."""
    from lit_fed.cli import main

    imported = Path(sys.modules["lit_fed"].__path__[0]).resolve()
    if imported.parent != ROOT:
        raise ImportError(f"lit_fed is expected to be imported from {ROOT}, but is from {imported}")
    sys.argv = ["lit-fed"]
    with (
        run.with_suffix(".log").open("w", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        main(["fit", *args, f"--trainer.default_root_dir={run}"])


def _break_off(finished: Path, run: Path) -> None:
    """Copy a finished run as if it had been killed before the end of its last round."""
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("adapter", "*.csv", "summary.*"))
    shutil.rmtree(max((run / "checkpoints").glob("round=*")))


def _recorded(run: Path, fit: Callable[[Path], None]) -> Record:
    """The record of a run, or, where it was refused or failed, of the error's class."""
    try:
        fit(run)
    except (Exception, SystemExit) as error:
        with run.with_suffix(".log").open("a", encoding="utf-8") as log:
            log.write(f"\n{type(error).__name__}: {error}\n")
        return {"error": {"class": type(error).__name__}}
    return record(run)


# ------------------------------------------------------------------------------------ recording


def record(run: Path) -> Record:
    """Read what a run left in its folder.

    Args:
        run: The run's folder.

    Returns:
        For each adapter, each safetensors file and ``state.json`` of each checkpoint, the digests of
        its parts, and for the tables of metrics, their text column by column. Files of tensors in a
        checkpoint are called by what ``state.json`` says of them.
    """
    files: Record = {}
    for path in sorted(run.glob("adapter/**/*.safetensors")):
        files[_name(path, run)] = tensors(path)
    for folder in sorted(run.glob("checkpoints/*/")):
        state = _json(folder / "state.json")
        owners = {value: ".".join(keys) for keys, value in _leaves(state) if _is_tensors(value)}
        for path in sorted(folder.rglob("*.safetensors")):
            inside = path.relative_to(folder).as_posix()
            name = owners.get(inside, inside.removesuffix(".safetensors"))
            files[f"{_name(folder, run)}/{name}"] = tensors(path)
        files[f"{_name(folder, run)}/state.json"] = counters(state)
    if (run / "metrics.csv").is_file():
        files["metrics.csv"] = columns(run / "metrics.csv")
    summary = _json(run / "summary.json").get("metrics", {})
    files["summary.json"] = {k: repr(v) for k, v in summary.items() if not k.startswith("time/")}
    return {name: dict(sorted(parts.items())) for name, parts in sorted(files.items())}


def tensors(path: Path) -> dict[str, str]:
    """The digest of every tensor of a safetensors file, and of what its header says beside them."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8:start])
    parts = {}
    for name, value in header.pop("__metadata__", {}).items():
        parts[f"metadata {name}"] = _digest(_normalised(value).encode())
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        kind = f"{tensor['dtype']} {tensor['shape']} ".encode()
        parts[_normalised(name)] = _digest(kind + data[start + begin : start + end])
    return parts


def counters(state: dict[str, Any]) -> dict[str, str]:
    """What ``state.json`` counts: everything but names of files and what describes the run.

    The history is left out too: ``metrics.csv`` is written from it.
    """
    described = ("format", "run", "history")
    return {
        ".".join(keys): json.dumps(value)
        for keys, value in _leaves(state)
        if keys[0] not in described and not _is_tensors(value)
    }


def columns(path: Path) -> dict[str, str]:
    """The exact text of every column of a CSV file that is no time."""
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    table = zip(names, *rows, strict=True)
    return {name: ",".join(cells) for name, *cells in table if not name.startswith("time/")}


def _leaves(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Whatever is no dictionary in nested dictionaries, with the keys that lead to it."""
    if not isinstance(value, dict):
        yield keys, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, (*keys, key))


def _is_tensors(value: Any) -> bool:
    return isinstance(value, str) and value.endswith(".safetensors")


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _name(path: Path, run: Path) -> str:
    return path.relative_to(run).as_posix().removesuffix(".safetensors")


def _normalised(name: str) -> str:
    """A name of a tensor, whatever separates its parts."""
    return re.sub(r"/|::", ".", name)


def _digest(data: bytes) -> str:
    """As many digits of SHA-256 as tell millions of tensors apart."""
    return hashlib.sha256(data).hexdigest()[:16]


# ------------------------------------------------------------------------------------ comparing


def differences(before: Record, after: Record) -> Iterator[str]:
    """Say in what two records differ, a line for each file."""
    for file in sorted(before.keys() | after.keys()):
        if file not in before or file not in after:
            yield f"{file}: only {'before' if file in before else 'after'}"
            continue
        old, new = before[file], after[file]
        changed = [part for part in old if part in new and old[part] != new[part]]
        for what, parts in (
            ("differ", changed),
            ("only before", sorted(old.keys() - new.keys())),
            ("only after", sorted(new.keys() - old.keys())),
        ):
            if parts:
                first = parts[0]
                shown = f" ({old[first]:.60} → {new[first]:.60})" if parts is changed else ""
                more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
                yield f"{file}: {what}: {first}{shown}{more}"


def compare(before: Path, after: Path, only: str) -> int:
    """Print in what two files of digests differ, and return how many executions do."""
    old, new = _json(before), _json(after)
    for key in sorted(old["made_with"].keys() | new["made_with"].keys()):
        was, now = old["made_with"].get(key), new["made_with"].get(key)
        print(f"{key}: {was}" + ("" if was == now else f" → {now}"))
    count = compared = 0
    for case in sorted(name for name in old["cases"].keys() | new["cases"].keys() if only in name):
        was, now = old["cases"].get(case), new["cases"].get(case)
        if was is None or now is None:
            print(f"{case}: only {'after' if was is None else 'before'}")
            count += 1
            continue
        for execution in sorted(was.keys() | now.keys()):
            compared += 1
            lines = list(differences(was.get(execution, {}), now.get(execution, {})))
            count += bool(lines)
            for line in lines:
                print(f"{case} {execution}: {line}")
    print(f"{compared} executions compared, {count} differences" if count else f"{compared} equal")
    return count


# ------------------------------------------------------------------------------ the command line


def write_digests(output: Path, cases: list[Case], jobs: int, work: Path) -> None:
    """Run cases and write their records, and say what is not as it should be.

    Args:
        output: The file to write.
        cases: What to run.
        jobs: Processes that run cases.
        work: Where the runs are kept.

    Raises:
        SystemExit: When all is written, if a case does not run one client after the other.
    """
    started = time.monotonic()
    # Children read these when they start: this copy of the library, no threads, and whole errors.
    os.environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LIT_FED_DEBUG": "1"}
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    records: dict[str, dict[str, Record]] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        runs = [(case, pool.submit(run_case, case, work)) for case in cases]
        for case, future in runs:
            records[case.name] = future.result()
            _report(case.name, records[case.name], work)
    # These have two processes of their own, so they come one after the other.
    for case in cases:
        if case.name in IN_TWO_PROCESSES:
            records[case.name]["processes"] = run_in_two_processes(case, work)
            _report(case.name, {"processes": records[case.name]["processes"]}, work)
    made = {"commit": _git("rev-parse", "HEAD"), "changed": _git("status", "--short", "-uno")}
    made |= {"torch": _version("torch"), "transformers": _version("transformers")}
    text = json.dumps({"made_with": made, "cases": records}, indent=1, sort_keys=True)
    output.write_text(text, encoding="utf-8")
    count = sum(len(executions) for executions in records.values())
    print(
        f"{count} executions of {len(cases)} cases in {time.monotonic() - started:.0f} s: {output}"
    )
    if failed := [name for name, found in records.items() if "error" in found["sequential"]]:
        sys.exit(f"these cases guard nothing, since they do not run: {', '.join(failed)}")


def _report(name: str, executions: dict[str, Record], work: Path) -> None:
    """Say how a case ended: refusals and errors, and a resumed run that ended otherwise."""
    print(f"{name}: {', '.join(executions)}", flush=True)
    for execution, found in executions.items():
        if "error" in found:
            log = work / name / f"{execution}.log"
            *_, last = log.read_text(encoding="utf-8").strip().splitlines()
            print(f"  {execution}: {last:.300}", flush=True)
    if "resumed" in executions:
        for line in differences(executions["sequential"], executions["resumed"]):
            print(f"  resumed is not as sequential: {line}", flush=True)


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path, help="run the cases and write their digests here")
    what.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    what.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--only", default="", help="only cases with this in their name")
    parser.add_argument("--jobs", type=int, default=1, help="cases that run at the same time")
    parser.add_argument("--work", type=Path, help="keep the runs and their logs in this new folder")
    given = parser.parse_args()
    if given.compare:
        sys.exit(1 if compare(*given.compare, given.only) else 0)
    cases = [case for case in all_cases() if given.only in case.name]
    if given.list:
        print("\n".join(case.name for case in cases))
    elif given.work:
        write_digests(given.output.resolve(), cases, given.jobs, given.work.resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="run_digests-") as work:
            write_digests(given.output.resolve(), cases, given.jobs, Path(work))


if __name__ == "__main__":
    main()
