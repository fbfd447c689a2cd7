"""Small files in the formats of the data that configurations name."""

import json
from pathlib import Path

from transformers import BertModel

from tests.federation.toy import save_toy_model, toy_rows
from tests.methods.toy_methods import save_toy_lm


def sst2_files(folder: Path) -> None:
    """Files of SST-2's three formats with sentences of our own."""
    (folder / "data" / "sst2").mkdir(parents=True)
    for seed, split in enumerate(("train", "dev")):
        rows = toy_rows(60, seed)
        lines = [f"{t}\t{y}" for t, y in zip(rows["text"], rows["label"], strict=True)]
        (folder / "data" / "sst2" / f"{split}.tsv").write_text(
            "\n".join(["sentence\tlabel", *lines])
        )
    rows = toy_rows(30, 2)
    lines = [f"{y} {t}" for t, y in zip(rows["text"], rows["label"], strict=True)]
    (folder / "data" / "sst2" / "test.tsv").write_text("\n".join(lines))


def trec_files(folder: Path) -> None:
    """Files in TREC's format with sentences of our own, of which the test lacks a label."""
    (folder / "data" / "trec").mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        texts = toy_rows(60, seed)["text"]
        lines = [f'{i % (6 - seed)},"{text} ?"' for i, text in enumerate(texts)]
        (folder / "data" / "trec" / f"{split}.csv").write_text("\n".join(lines))


def sst2_trec_files(folder: Path) -> list[str]:
    """Files of both and a tiny model, and how so few rows are taken."""
    sst2_files(folder)
    trec_files(folder)
    model = save_toy_model(folder / "model")
    BertModel.from_pretrained(model).save_pretrained(model)  # without its head of two labels
    public = ["--data.public_size=10", "--data.validation_fraction=0.2"]
    return [f"--model.backbone.model={model}", *public]


def tatoeba_files(folder: Path) -> None:
    """A file in Tatoeba's format: 12,000 pairs, a third traditional, by 31 contributors."""
    (folder / "data" / "tatoeba").mkdir(parents=True)
    lines = []
    for i in range(12000):
        english = " ".join([f"w{i}", *["word"] * (1 + i % 9)])
        chinese = f"{'这那這'[i // 9 % 3]}{i}。"
        attribution = f"CC-BY 2.0 (France) Attribution: tatoeba.org #{i} (CK) & #{i} (u{i % 31})"
        lines.append(f"{english}\t{chinese}\t{attribution}")
    (folder / "data" / "tatoeba" / "cmn.txt").write_text("\n".join(lines), encoding="utf-8")


def instructions_and_a_processor(folder: Path) -> list[str]:
    """Rows and a tiny model for what is meant for several GPUs, and how one processor takes them."""
    (folder / "data" / "instructions").mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        rows = toy_rows(60, seed)
        pairs = zip(rows["text"], rows["label"], strict=True)
        lines = [json.dumps({"instruction": t, "response": ("bad", "good")[y]}) for t, y in pairs]
        (folder / "data" / "instructions" / f"{split}.jsonl").write_text("\n".join(lines))
    model = save_toy_lm(folder / "model")
    here = ["--trainer.accelerator=cpu", "--trainer.devices=1"]
    return [*here, f"--model.backbone.model={model}", "--data.max_length=32"]


def instruction_files(folder: Path) -> None:
    """Files of instructions and chats in the four forms, with sentences of our own."""
    for name in ("dolly", "alpaca", "chats", "questions"):
        (folder / "data" / name).mkdir(parents=True)
    asked = ["What is six plus three?", "Who has the red boat?", "Say it again."] * 8
    dolly = [{"instruction": q, "context": "", "response": "It is nine."} for q in asked]
    for name in ("local_training_0", "local_training_1", "global_test"):
        (folder / "data" / "dolly" / f"{name}.json").write_text(json.dumps(dolly))
    alpaca = [{"instruction": q, "input": "Ann has it.", "output": "Ann."} for q in asked]
    (folder / "data" / "alpaca" / "alpaca_data.json").write_text(json.dumps(alpaca))
    question = {"query": "Who has the red boat?", "choices": ["Ann", "Ben"]}
    questions = "\n".join(json.dumps({**question, "gold": i % 2}) for i in range(24))
    for name in ("train", "test"):
        (folder / "data" / "questions" / f"{name}.jsonl").write_text(questions)
    turns = [("user", "Who?"), ("assistant", "Ann."), ("user", "Why?"), ("assistant", "She ran.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    chats = [{"author": "abc"[i % 3], "messages": messages[: 2 + i % 3]} for i in range(24)]
    for name in ("train", "test"):
        lines = "\n".join(json.dumps(chat) for chat in chats)
        (folder / "data" / "chats" / f"{name}.jsonl").write_text(lines)
