"""`lit-fed predict` from the command line."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from lit_fed.cli import main
from tests.federation.toy import save_toy_config
from tests.methods.toy_methods import lm_rows, save_toy_lm


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--config", str(save_toy_config(tmp_path_factory.mktemp("predict")))]


@pytest.fixture(autouse=True)
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["lit-fed"])
    monkeypatch.chdir(tmp_path)


def error_of(arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["predict", *arguments])
    message = str(exit_.value)
    assert message.startswith("lit-fed: error: ")
    assert "\n" not in message
    return message


@pytest.mark.filterwarnings("ignore:.*this trainer has not trained")
def test_a_new_file_with_names_of_labels_and_never_over_another(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["--data.encoding.label_names=[schlecht, 很好]", "--output=out/predictions.jsonl"]
    main(["predict", *arguments, *names])
    assert capsys.readouterr().out == "80 rows are in out/predictions.jsonl\n"
    text = Path("out/predictions.jsonl").read_text(encoding="utf-8")
    assert "很好" in text
    for line in map(json.loads, text.splitlines()):
        assert list(line) == ["set", "row", "text", "expected", "label", "probabilities"]
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert [path.name for path in Path("out").iterdir()] == ["predictions.jsonl"]
    assert "`output` is expected to be a new file, but 'out/predictions.jsonl' exists" in error_of(
        [*arguments, *names]
    )
    assert Path("out/predictions.jsonl").read_text(encoding="utf-8") == text
    # a shell leaves the ~ of an option to the program
    monkeypatch.setenv("HOME", str(Path("out").absolute()))
    home = "--output=~/predictions.jsonl"
    assert "`output` is expected to be a new file" in error_of([*arguments, names[0], home])
    assert Path("out/predictions.jsonl").read_text(encoding="utf-8") == text


@pytest.mark.filterwarnings("ignore:.*this trainer has not trained")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--data.test=null"], "predict expects `data.test` to have rows, but there are none"),
        (
            ["--client=client-7"],
            "`client` is expected to be one of client-0, client-1, client-2, but got 'client-7'",
        ),
        (["--max_new_tokens=0"], "`max_new_tokens` is expected to be at least 1, but got 0"),
    ],
)
def test_what_cannot_be_predicted_is_said(
    arguments: list[str], wrong: list[str], said: str
) -> None:
    assert said in error_of([*arguments, *wrong, "--output=new.jsonl"])
    assert not Path("new.jsonl").exists()


@pytest.mark.filterwarnings("ignore:.*this trainer has not trained")
def test_a_method_without_a_global_model(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("alone.yaml").write_text(
        yaml.safe_dump({"model": {"init_args": {"aggregation": "lit_fed.aggregation.LocalOnly"}}})
    )
    both = [*arguments, "--config", "alone.yaml"]
    assert "FedAvg has none: name the client whose model predicts as `client`" in error_of(both)
    main(["predict", *both, "--client=client-1"])
    assert len(capsys.readouterr().out.splitlines()) == 80


@pytest.mark.filterwarnings("ignore:.*this trainer has not trained")
def test_texts_are_sampled_stopped_and_kept(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path_factory.mktemp("lm")
    save_toy_lm(folder / "model")
    lm_rows(6, 2).to_csv(folder / "test.csv")
    backbone = {
        "class_path": "lit_fed.backbones.CausalLM",
        "init_args": {"model": str(folder / "model")},
    }
    source = {
        "class_path": "lit_fed.data.CSVSource",
        "init_args": {"path": str(folder / "test.csv")},
    }
    encoding = {
        "class_path": "lit_fed.data.CausalLMEncoding",
        "init_args": {"template": "text : {text} is : {answer}", "response": "answer"},
    }
    config = {
        "model": {"class_path": "lit_fed.FedAvg", "init_args": {"backbone": backbone}},
        "data": {"train": source, "test": source, "encoding": encoding, "num_clients": 2},
        "trainer": {"accelerator": "cpu"},
    }
    Path("lm.yaml").write_text(yaml.safe_dump(config))
    given = ["--config=lm.yaml", "--max_new_tokens=6", "--cache=kept"]
    hot = ["--sampling.temperature=2.0", "--sampling.top_k=5", "--sampling.seed=1"]

    def said(*further: str) -> tuple[list[str], str]:
        main(["predict", *given, *further])
        out, err = capsys.readouterr()
        return [json.loads(line)["generated"] for line in out.splitlines()], err

    greedy, err = said()
    assert "generated 6 answers, " in err
    assert "tokens/s" in err
    again, err = said()
    assert again == greedy
    assert "generated" not in err
    sampled, err = said(*hot)
    assert sampled != greedy
    assert "generated 6 answers" in err
    word = sampled[0].split()[1]
    stopped, _ = said(*hot, f"--stop=[{word}]", "--trainer.enable_progress_bar=false")
    assert stopped == [text.partition(word)[0] for text in sampled]
    assert len(list(Path("kept").iterdir())) == 3
    for wrong, message in (
        (
            "--sampling.top_p=2",
            "`sampling.top_p` is expected to be above 0 and at most 1, but got 2",
        ),
        ("--stop=['']", "`stop` is expected to have no empty text"),
    ):
        assert message in error_of([*given, *hot, wrong])
