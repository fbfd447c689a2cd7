"""Everything is reached from YAML by class path, as `lit-fed` does."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser, Namespace

import lit_fed.data
from lit_fed.data import FederatedDataModule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FederatedDataModule, "data")
    return parser


def build(text: str) -> FederatedDataModule:
    built: Namespace = parser().instantiate_classes(parser().parse_object(yaml.safe_load(text)))
    data: FederatedDataModule = built.data
    return data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(
        "text,label,author\n" + "".join(f"a b,{i % 2},p{i % 3}\n" for i in range(30))
    )
    (tmp_path / "test.txt").write_text("0 a b c\n1 d\n")
    (tmp_path / "more.jsonl").write_text('{"text": "a", "label": 1}\n')
    return tmp_path


def test_sources_encodings_and_partitioners_by_class_path(folder: Path) -> None:
    data = build(
        f"""
        data:
          train: {{class_path: lit_fed.data.CSVSource, init_args: {{path: {folder}/train.csv}}}}
          test:
            lines:
              class_path: lit_fed.data.LinesSource
              init_args: {{path: {folder}/test.txt, pattern: '(?P<label>\\d) (?P<text>.*)'}}
            json: {{class_path: lit_fed.data.JSONLSource, init_args: {{path: {folder}/more.jsonl}}}}
          encoding: {{class_path: lit_fed.data.ClassificationEncoding, init_args: {{text: text, text_pair: null}}}}
          partitioner: {{class_path: lit_fed.data.NaturalPartitioner, init_args: {{column: author}}}}
          num_clients: 3
          seed: 1
        """
    )
    data.setup()
    assert [len(set(client.rows["author"])) for client in data.clients] == [1, 1, 1]
    assert {name: len(rows) for name, rows in data.tests.items()} == {"lines": 2, "json": 1}


def test_one_test_table(folder: Path) -> None:
    data = build(
        f"""
        data:
          train: {{class_path: lit_fed.data.CSVSource, init_args: {{path: {folder}/train.csv}}}}
          test: {{class_path: lit_fed.data.JSONLSource, init_args: {{path: {folder}/more.jsonl}}}}
          encoding: {{class_path: lit_fed.data.CausalLMEncoding, init_args: {{template: "{{text}}: {{label}}", response:
              label}}}}
        """
    )
    data.setup()
    assert list(data.tests) == ["test"]


def test_every_public_class_can_be_named() -> None:
    for name in lit_fed.data.__all__:
        assert getattr(lit_fed.data, name).__name__ == name


def test_errors_name_the_setting() -> None:
    with pytest.raises(
        Exception,
        match=r"`data.partitioner.alpha` is expected to be finite and above 0, but got -1",
    ):
        build("data: {partitioner: {class_path: DirichletPartitioner, init_args: {alpha: -1}}}")


@pytest.mark.slow
def test_help_reads_no_data_library() -> None:
    # What datasets and pandas take to import would be felt in every `lit-fed --help`.
    program = (
        "import sys; from jsonargparse import ArgumentParser; from lit_fed.data import FederatedDataModule;"
        "before = set(sys.modules); parser = ArgumentParser();"
        "parser.add_class_arguments(FederatedDataModule, 'data'); parser.format_help();"
        "print(sorted({'datasets', 'pandas', 'pyarrow'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_clients_that_are_separate_already(folder: Path) -> None:
    (folder / "wards").mkdir()
    for name in ("b c", "a"):
        (folder / "wards" / f"{name}.txt").write_text("text;label\nx;0\ny;1\n")
    encoding = "{class_path: ClassificationEncoding, init_args: {text: text, text_pair: null}}"
    data = build(
        f"""
        data:
          train:
            class_path: lit_fed.data.ClientFiles
            init_args:
              pattern: {folder}/wards/*.txt
              source: {{class_path: lit_fed.data.CSVSource, init_args: {{delimiter: ";"}}}}
          encoding: {encoding}
        """
    )
    data.setup()
    assert [client.id for client in data.clients] == ["a", "b c"]
    data = build(
        f"""
        data:
          train:
            ward 2: {{class_path: CSVSource, init_args: {{path: {folder}/train.csv}}}}
            ward 1: {{class_path: JSONLSource, init_args: {{path: {folder}/more.jsonl}}}}
          encoding: {encoding}
          validation_fraction: 0
        """
    )
    data.setup()
    assert [(client.id, len(client.rows)) for client in data.clients] == [
        ("ward 2", 30),
        ("ward 1", 1),
    ]
