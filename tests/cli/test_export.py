"""`lit-fed export`: the global model, a client's, merged ones, and what a local stand-in of the hub is sent."""

from __future__ import annotations

import base64
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from lit_fed import FedAvg
from lit_fed.cli import main
from lit_fed.cli.hub import upload
from tests.federation.toy import save_toy_config, toy_rows


def run_of(folder: Path, rule: str) -> Path:
    """A run of two rounds over named wards whose labels are words."""
    path = save_toy_config(folder)
    for seed, split in enumerate(("train", "test")):
        rows = toy_rows(80, seed)
        table = {
            "text": rows["text"][:],
            "label": [("calm", "urgent")[label] for label in rows["label"]],
            "ward": [("north", "south")[i % 2] for i in range(len(rows))],
        }
        type(rows).from_dict(table).to_csv(folder / f"{split}.csv")
    config = yaml.safe_load(path.read_text())
    config["data"] |= {
        "num_clients": None,
        "partitioner": {
            "class_path": "lit_fed.data.NaturalPartitioner",
            "init_args": {"column": "ward"},
        },
    }
    config["model"]["init_args"]["aggregation"] = {"class_path": f"lit_fed.aggregation.{rule}"}
    path.write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lit-fed"])
        main(["fit", "--config", str(path), f"--trainer.default_root_dir={folder / 'run'}"])
    return folder / "run"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a global model."""
    return run_of(tmp_path_factory.mktemp("global"), "WeightedAverage")


@pytest.fixture(scope="module")
def personal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose clients keep a part of their adapters, so that each has a model of its own."""
    return run_of(tmp_path_factory.mktemp("personal"), "FedSALoRA")


@pytest.fixture(autouse=True)
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["lit-fed"])
    monkeypatch.chdir(tmp_path)


def export(run: Path, *words: str) -> None:
    main(["export", "--config", str(run / "config.yaml"), *words])


def plain_logits(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(**batch).logits
    return logits


TEXTS = ["the good film", "a cold day was long", "kind book"]


def test_the_global_model_merged_is_a_plain_folder_of_transformers(saved: Path) -> None:
    export(saved, "--output", "merged", "--merge", "true")
    module = FedAvg.from_run(saved)
    ours = plain_logits(module.backbone.model, module.tokenizer, TEXTS)
    model = AutoModelForSequenceClassification.from_pretrained("merged")
    tokenizer = AutoTokenizer.from_pretrained("merged")
    torch.testing.assert_close(plain_logits(model, tokenizer, TEXTS), ours, atol=1e-5, rtol=1e-4)

    told = json.loads(Path("merged/config.json").read_text())
    assert told["id2label"] == {"0": "calm", "1": "urgent"}
    said = pipeline("text-classification", "merged")(TEXTS)
    assert [one["label"] for one in said] == [("calm", "urgent")[i] for i in ours.argmax(-1)]

    card = ModelCard.load("merged/README.md")
    assert card.data.library_name == "transformers"
    tested = json.loads((saved / "summary.json").read_text())["metrics"]["test/accuracy"]
    (accuracy,) = [r for r in card.data.eval_results if r.metric_type == "accuracy"]
    assert accuracy.metric_value == tested


def test_a_clients_own_model_is_written_and_named_nowhere_in_its_card(personal: Path) -> None:
    export(personal, "--output", "south", "--client", "south")
    export(personal, "--output", "merged", "--client", "south", "--merge", "true")
    told = json.loads(Path("south/adapter_config.json").read_text())
    base = AutoModelForSequenceClassification.from_pretrained(told["base_model_name_or_path"])
    tokenizer = AutoTokenizer.from_pretrained("south")
    own = plain_logits(PeftModel.from_pretrained(base, "south"), tokenizer, TEXTS)
    merged = AutoModelForSequenceClassification.from_pretrained("merged")
    torch.testing.assert_close(plain_logits(merged, tokenizer, TEXTS), own, atol=1e-5, rtol=1e-4)
    # the same as what the run itself has left, and not what it has left of the other client
    weights = "adapter_model.safetensors"
    written = load_file(f"south/{weights}")
    left = {ward: load_file(personal / "adapter" / ward / weights) for ward in ("north", "south")}
    assert written.keys() == left["south"].keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in left["south"].items())
    assert not all(torch.equal(written[name], tensor) for name, tensor in left["north"].items())
    text = Path("south/README.md").read_text("utf-8")
    assert "The own model of one of the clients, which are not named here." in text
    assert "south" not in text
    assert ModelCard.load("south/README.md").data.eval_results is None


def test_without_a_global_model_a_client_has_to_be_named(personal: Path) -> None:
    with pytest.raises(SystemExit, match="export expects a method with a global model, but FedAvg"):
        export(personal, "--output", "out")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--client", "sout"], "`client` is expected to be one of north, south, but got 'sout'"),
        (
            ["--ckpt_path", "nowhere"],
            "`ckpt_path` is expected to be .*, but got nowhere, not there",
        ),
    ],
)
def test_what_is_not_there_is_named(saved: Path, words: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=f"lit-fed: error: {said}"):
        export(saved, "--output", "out", *words)
    assert not Path("out").exists()


def test_an_earlier_round_has_no_results_of_the_last_and_no_folder_is_replaced(saved: Path) -> None:
    first = str(saved / "checkpoints" / "round=0001")
    export(saved, "--output", "first", "--ckpt_path", first)
    text = Path("first/README.md").read_text("utf-8")
    assert "| rounds | 1 |" in text
    assert "Not tested at the end of the run." in text
    with pytest.raises(SystemExit, match="`output` is expected to be a new folder, but 'first'"):
        export(saved, "--output", "first")


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks of the hub to make a repository and to commit files, as far as it is known.

    It cannot say what the real one would refuse: no check of a card, of rights or of names is here.
    """

    asked: list[tuple[str, str, Any]]
    uploaded: dict[str, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        token = self.headers.get("Authorization", "")
        if path.endswith("/commit/main"):
            lines = [json.loads(line) for line in body.splitlines()]
            self.asked.append((path, token, lines))
            self.answer(
                {
                    "commitUrl": self.url(f"me/wards/commit/{'0' * 40}"),
                    "commitOid": "0" * 40,
                    "success": True,
                }
            )
            return
        told = json.loads(body)
        self.asked.append((path, token, told))
        if path.endswith("/repos/create"):
            self.answer({"url": self.url(told["organization"] + "/" + told["name"])})
        elif path.endswith("/preupload/main"):
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in told["files"]
            ]
            self.answer({"files": modes})
        elif path.endswith("/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": self.url(f"lfs/{one['oid']}")}}}
                for one in told["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        else:  # the check of the card's metadata
            self.answer({"warnings": [], "errors": []})

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        self.uploaded[self.path.rpartition("/")[2]] = self.rfile.read(length)
        self.answer({})

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{path}"

    def answer(self, told: Any) -> None:
        content = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    kind = type("OneHub", (Hub,), {"asked": [], "uploaded": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield kind
    server.shutdown()
    thread.join()
    server.server_close()


def test_push_to_hub_sends_every_file_by_huggingface_hubs_own_calls(
    saved: Path, hub: type[Hub], capsys: pytest.CaptureFixture[str]
) -> None:
    export(saved, "--output", "out", "--merge", "true", "--push_to_hub", "me/wards")
    assert "uploaded to http://127.0.0.1:" in capsys.readouterr().out
    assert {token for _, token, _ in hub.asked} == {"Bearer hf_secret"}
    (created,) = [told for path, _, told in hub.asked if path.endswith("/repos/create")]
    assert (created["organization"], created["name"], created["visibility"]) == (
        "me",
        "wards",
        "private",
    )
    ((path, _, lines),) = [one for one in hub.asked if one[0].endswith("/commit/main")]
    assert path == "/api/models/me/wards/commit/main"
    header, *files = lines
    assert header["value"]["summary"] == "Upload by lit-fed export"
    sent = {
        one["value"]["path"]: base64.b64decode(one["value"]["content"])
        for one in files
        if one["key"] == "file"
    }
    for one in files:
        if one["key"] == "lfsFile":
            sent[one["value"]["path"]] = hub.uploaded[one["value"]["oid"]]
    assert sent == {p.name: p.read_bytes() for p in Path("out").iterdir()}
    assert {"README.md", "config.json", "model.safetensors"} <= sent.keys()


def test_an_adapter_whose_base_is_a_folder_is_warned_of(saved: Path, hub: type[Hub]) -> None:
    shutil.copytree(saved / "adapter", "adapter")
    with pytest.warns(UserWarning, match="base model is the folder .* of this machine"):
        upload(Path("adapter"), "me/adapter", private=False)
    assert hub.asked[0][2]["visibility"] == "public"


def test_without_a_hub_the_error_is_one_line(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit, match=r"lit-fed: error: \S"):
        export(saved, "--output", "out", "--push_to_hub", "me/wards")
    assert Path("out/README.md").is_file()
