"""The overlay of a client behind an address: with a server on localhost, and with `transformers serve`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_fed.backbones import BlackBox, HTTPGenerator
from lit_fed.backbones.embedded.embedded_model import embedded_model
from lit_fed.cli import LitFedCLI
from tests.backbones.endpoint.misbehaving_server import MisbehavingServer, fails_with
from tests.backbones.endpoint.served import needs_transformers_serve, served
from tests.methods.toy_methods import save_toy_lm

CONFIGS = Path(__file__).parents[3] / "configs"
OVERLAY = CONFIGS / "black_boxes" / "endpoint.yaml"
LLAMAS = CONFIGS / "black_boxes" / "llamas_and_endpoint.yaml"
KEY = "sk-Very-Secret-0123456789"
NUMBER = "Nine"


def fitted(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    overlay: Path = OVERLAY,
    models: Sequence[Path] = (),
    **settings: Any,
) -> Any:
    """A small run of the two files, the second with other settings of its endpoint and other models before it."""
    config = yaml.safe_load(overlay.read_text("utf-8"))
    *groups, last = config["model"]["init_args"]["clients"]
    for group, model in zip(groups, models, strict=True):
        group["backbone"]["init_args"]["model"] = str(model)
    last["backbone"]["init_args"] |= settings
    changed = folder / "endpoint.yaml"
    changed.write_text(yaml.safe_dump(config))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    sizes = {"train": 60, "validation": 12, "test": 12, "public": 6}
    smaller = [
        *(f"--data.{name}.init_args.size={size}" for name, size in sizes.items()),
        "--model.warmup_rounds=1",
        "--model.answers.max_new_tokens=8",
        "--trainer.max_rounds=1",
        "--trainer.limit_train_batches=1",
        "--trainer.limit_test_batches=1",
        "--trainer.enable_progress_bar=false",
    ]
    text = CONFIGS / "semantic_consensus_text.yaml"
    return LitFedCLI(["fit", "--config", str(text), "--config", str(changed), *smaller])


@pytest.mark.parametrize("overlay", [OVERLAY, LLAMAS], ids=lambda path: path.stem)
def test_its_command_is_its_first_line(overlay: Path) -> None:
    text = overlay.read_text("utf-8")
    files = (
        f"--config configs/semantic_consensus_text.yaml --config configs/black_boxes/{overlay.name}"
    )
    assert text.splitlines()[0] == f"# lit-fed fit {files}"
    *_, group = yaml.safe_load(text)["model"]["init_args"]["clients"]
    HTTPGenerator(**group["backbone"]["init_args"])


def test_three_models_of_three_vocabularies_and_a_service_are_one_federation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [save_toy_lm(tmp_path / str(n), [f"w{i}" for i in range(n)], 256) for n in (1, 2, 3)]
    with MisbehavingServer(answer=lambda prompt: NUMBER) as server:
        cli = fitted(tmp_path, monkeypatch, LLAMAS, models, base_url=server.url)
    module, data = cli.model, cli.datamodule
    names = [client.id for client in data.clients]
    assert module.server.ballots.answers[names.index("Hugo")] == (NUMBER,) * 6
    (row,) = cli.trainer.federation.history
    assert len(module.server.ballots.answers) == len(names) == 10
    assert row["clients/sampled"] == 10
    assert row["clients/failed"] == 0


def test_a_run_by_the_command_line_has_its_answers_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIT_FED_TEST_KEY", KEY)
    with MisbehavingServer(answer=lambda prompt: NUMBER) as server:
        cli = fitted(tmp_path, monkeypatch, base_url=server.url, api_key_env="LIT_FED_TEST_KEY")
        asked = {request.prompt for request in server.requests}
        assert {request.headers["Authorization"] for request in server.requests} == {
            f"Bearer {KEY}"
        }
    module, data = cli.model, cli.datamodule
    assert set(data.encoding.prompts(data.public)) < asked
    place = [client.id for client in data.clients].index("Hugo")
    assert module.server.ballots.answers[place] == (NUMBER,) * 6
    assert [*module.black_boxes] == ["clients.0.backbone"]
    (config,) = tmp_path.rglob("config.yaml")
    assert "api_key_env: LIT_FED_TEST_KEY" in config.read_text()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_wrong_model_is_said_in_a_line_and_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIT_FED_TEST_KEY", KEY)
    with MisbehavingServer(otherwise=fails_with(404, f"no model for {KEY}")) as server:
        with pytest.raises((ValueError, SystemExit)) as caught:
            fitted(tmp_path, monkeypatch, base_url=server.url, api_key_env="LIT_FED_TEST_KEY")
        assert len(server.requests) == 1
    said = f"{caught.value} {capsys.readouterr()}"
    assert "`model.clients.0.backbone`: `base_url` and `model` are expected" in said
    assert KEY not in said


@pytest.mark.slow
@needs_transformers_serve
def test_with_transformers_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint answers as the model that it serves does by itself."""
    model = embedded_model("decoder")
    with served(model, tmp_path / "log.txt") as url:
        cli = fitted(tmp_path, monkeypatch, base_url=url, model=str(model), max_new_tokens=8)
    module, data = cli.model, cli.datamodule
    place = [client.id for client in data.clients].index("Hugo")
    answers = module.server.ballots.answers[place]
    module.act_as(None)
    assert not isinstance(module.backbone, BlackBox)
    with module.backbone.using():
        alone = module.backbone.generate(
            data.encoding.prompt_ids(data.public, module.tokenizer), max_new_tokens=8
        )
    assert list(answers) == [text.strip() or None for text in alone]
    row = cli.trainer.federation.history[0]
    assert row["clients/answers/missing/mean"] == answers.count(None) < len(answers)
