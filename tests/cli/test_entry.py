"""What the command answers at once, and where it looks for packages."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lit_fed.cli import main
from lit_fed.cli.commands import EXAMPLES, RUNS

ROOT = Path(__file__).resolve().parents[2]
# as pip writes the console script: the script's folder is first on the path, the current one is not on it
CONSOLE = "import sys; sys.path[0] = sys.prefix; from lit_fed.cli import main; sys.argv[0] = 'lit-fed'; main()"


def command(*words: str, cwd: Path, console: bool = True) -> subprocess.CompletedProcess[str]:
    start = ["-c", CONSOLE] if console else ["-m", "lit_fed"]
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["list"], ["init", "there"], ["fitt"]]
)
def test_torch_is_not_imported_for_an_answer(words: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from lit_fed.cli import main
from lit_fed.cli.commands import EXAMPLES, RUNS
try:
    main({words!r})
except SystemExit:
    pass
print(*(name for name in ("torch", "lightning", "jsonargparse", "rich") if name in sys.modules), file=sys.stderr)
"""
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stderr.splitlines()[-1] == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"lit-fed {importlib.metadata.version('lit_fed')}\n"


def test_help_names_every_command(tmp_path: Path) -> None:
    child = command("--help", cwd=tmp_path, console=False)
    assert child.returncode == 0
    for name in (*EXAMPLES, "--version"):
        assert name in child.stdout


def test_list_has_a_line_for_everything(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    lines = dict(
        line.strip().split(maxsplit=1)
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("  ")
    )
    for name in (
        "lit_fed.FedAvg",
        "lit_fed.DDGMSI",
        "lit_fed.aggregation.FedAvgM",
        "lit_fed.backbones.CausalLM",
        "lit_fed.data.CausalLMEncoding",
        "lit_fed.data.NaturalPartitioner",
        "lit_fed.federation.VectorizedClients",
        "lit_fed.methods.semantic_consensus.MajorityVote",
        "lit_fed.methods.semantic_consensus.HashedNgramEncoder",
        "lit_fed.methods.teachers.FrozenTeacher",
        "lit_fed.perturbations.DropBlock",
        "lit_fed.callbacks.TermStrength",
        "lora_fedavg",
        "data/tatoeba",
        "backbones/minilm",
        "studies/zou2024/table1",
    ):
        assert name in lines
    assert lines["lit_fed.backbones.SequenceClassifier"] == "A Hugging Face sequence classifier."
    configs = {
        p.relative_to(ROOT / "configs").with_suffix("") for p in (ROOT / "configs").rglob("*.yaml")
    }
    assert {str(name) for name in configs} <= set(lines)


def test_a_reader_may_stop_before_the_end_of_the_list() -> None:
    command = [sys.executable, "-m", "lit_fed", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 0


def test_list_shows_what_can_be_named_and_nothing_abstract(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["list"])
    shown = [w for line in capsys.readouterr().out.splitlines() if (w := line.split()[:1])]
    for (name,) in shown:
        if name.startswith("lit_fed."):
            package, _, kind = name.rpartition(".")
            found = getattr(importlib.import_module(package), kind)
            assert not getattr(found, "__abstractmethods__", None)


def test_init_copies_a_configuration_and_overwrites_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["init", "mine"])
    assert "lit-fed fit --config mine/lora_fedavg.yaml" in capsys.readouterr().out
    copied = (tmp_path / "mine" / "lora_fedavg.yaml").read_text()
    original = (ROOT / "configs" / "lora_fedavg.yaml").read_text()
    assert copied.splitlines()[0] == "# lit-fed fit --config mine/lora_fedavg.yaml"
    assert copied.splitlines()[1:] == original.splitlines()[1:]
    with pytest.raises(SystemExit, match=r"lora_fedavg\.yaml is expected not to exist yet"):
        main(["init", "mine"])
    main(["init", "mine", "--config", "data/tatoeba"])
    assert (tmp_path / "mine" / "tatoeba.yaml").is_file()
    with pytest.raises(SystemExit, match="there is no 'tatoba'"):
        main(["init", "mine", "--config", "tatoba"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fitt"], "but got 'fitt'; did you mean 'fit'?"),
        ([], f"expected one of {', '.join(EXAMPLES)} or --help"),
        (["init"], "the following arguments are required: FOLDER"),
        (["list", "--all"], "unrecognized arguments: --all"),
        (["init", "x", "--conf", "msi"], "unrecognized arguments: --conf msi"),
    ],
)
def test_a_wrong_command_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lit-fed: error: ")
    assert said in line


@pytest.mark.slow
def test_the_console_script_finds_a_package_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "method.py").write_text(
        '"""A method."""\nfrom lit_fed import FedAvg\n\n\nclass Mine(FedAvg):\n    """One of my own."""\n'
    )
    child = command("fit", "--model", "mine.method.Mine", "--print_config", cwd=tmp_path)
    assert child.returncode == 0, child.stderr
    assert "class_path: mine.method.Mine" in child.stdout


def test_a_safe_path_stays_safe(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    code = "import sys; from lit_fed.cli import main; sys.argv[1:] = ['list']; main(); import mine"
    for flags, found in ((["-P"], False), ([], True)):
        child = subprocess.run(
            [sys.executable, *flags, "-c", code],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ("No module named 'mine'" not in child.stderr) is found


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in RUNS])
def test_help_of_a_command_ends_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert capsys.readouterr().out.endswith(f"\nExample: {EXAMPLES[name]}\n")


def test_a_shell_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(
        SystemExit, match=r"`shell` is expected to be one of bash, .*, but got 'sh'"
    ):
        main(["completion", "sh"])


@pytest.mark.slow
def test_bash_completes_commands_settings_and_classes(tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    script = tmp_path / "lit-fed.bash"
    script.write_text(command("completion", "bash", cwd=tmp_path).stdout)

    def completed(*words: str) -> set[str]:
        line = " ".join(["lit-fed", *words])
        asked = f"""
source {script}
COMP_WORDS=(lit-fed {" ".join(repr(word) for word in words)})
COMP_CWORD={len(words)} COMP_LINE={line!r} COMP_POINT={len(line)}
function=$(complete -p lit-fed | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" lit-fed {words[-1]!r} {(["lit-fed", *words])[-2]!r}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        child = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
        return set(child.stdout.split())

    assert completed("ex") == {"export"}
    assert set(EXAMPLES) <= completed("")
    assert completed("fit", "--trainer.max_ro") == {"--trainer.max_rounds"}


def test_list_has_what_a_setting_takes_though_it_extends_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["list"])
    shown = capsys.readouterr().out
    for name in (
        "lit_fed.data.ClientFiles",
        "lit_fed.data.ChatTemplate",
        "lit_fed.privacy.DPSGD",
        "lit_fed.backbones.BitFitConfig",
        "lit_fed.aggregation.robust.Products",
    ):
        assert f"  {name} " in shown
    assert "lit_fed.attacks.Attack " not in shown
