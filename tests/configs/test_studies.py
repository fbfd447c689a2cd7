"""Every study names its command, and its arms and claims are what there is."""

import json
from itertools import chain, product
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser, auto_parser
from transformers import BertModel

from lit_fed.aggregation import Aggregation
from lit_fed.cli import LitFedCLI
from lit_fed.configurations import find_configuration
from lit_fed.study import study
from lit_fed.study.claims import claims
from tests.configs.data_files import instruction_files, sst2_files
from tests.configs.listed import (
    CLAIMS,
    CONFIGS,
    STUDIES,
)
from tests.federation.toy import save_toy_model
from tests.methods.toy_methods import save_toy_lm


@pytest.mark.slow
def test_clients_alone_are_compared_with_a_federation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    study = yaml.safe_load((CONFIGS / "studies" / "wang2026" / "table.yaml").read_text("utf-8"))
    names = [*study["configs"]["local_only"], *study["overlays"]]
    files = [find_configuration(name) for name in names]
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    smaller += ["--data.train.init_args.size=60", "--data.eval_batch_size=24"]
    cli = LitFedCLI(["fit", *(f"--config={file}" for file in files), *smaller])
    (row,) = cli.trainer.federation.history
    assert 0 <= row["clients/test/right/mean"] <= 100
    # no model is all clients', of which their gradients could be
    assert {name for name in row if name.startswith(("test/", "similarity/"))} == {
        "similarity/jensen_shannon",
        "similarity/tfidf_cosine",
    }


def arms_of(settings: Any) -> dict[str, list[str]]:
    """A study's arms by their names, each its YAML and those of its own."""
    given = settings.configs
    arms = given if isinstance(given, dict) else {str(one): [one] for one in given}
    return {name: [str(one) for one in own] for name, own in arms.items()}


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_a_study_names_its_command_and_what_there_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    command = f"# lit-fed-study --config {path.relative_to(CONFIGS.parent)}"
    assert text.splitlines()[0] == command
    settings = auto_parser(study, as_positional=False).parse_args([f"--config={path}"])
    assert settings.name == path.stem
    own = chain.from_iterable([*arms_of(settings).values(), *(settings.variants or {}).values()])
    for file in (*own, *settings.overlays):
        assert find_configuration(str(file)).is_file()
    if path.parent.name == "zou2024":
        reported = {"SRS", "TTA", "RSI", "GuS", "PE"}
        assert {metric.removeprefix("index/") for metric in settings.metrics} == reported


def takes(rule: dict[str, Any] | None, clients: int) -> bool:
    """Whether an aggregation rule has clients enough, if there is one."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(Aggregation, "rule")
    made = parser.instantiate(parser.parse_object({"rule": rule})).rule if rule else None
    return made is None or made.fewest_updates <= clients


TUNED = [path for path in STUDIES if path.parent.name != "zou2024"]


@pytest.mark.slow
@pytest.mark.parametrize("path", TUNED, ids=[path.stem for path in TUNED])
def test_every_arm_takes_its_settings(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    settings = auto_parser(study, as_positional=False).parse_args([f"--config={path}"])
    tune, every = settings.tune, []
    for own in (settings.variants or {"": []}).values():
        every.append([find_configuration(str(one)) for one in (*settings.overlays, *own)])
    arms = arms_of(settings)
    assert tune is None or set(tune.own) <= set(arms)
    compared: dict[str, str] = {}
    for (arm, (config, *last)), (number, overlays) in product(arms.items(), enumerate(every)):
        tried = [[]] if tune is None else tune.own.get(arm, tune.candidates)
        for place, candidate in enumerate(tried[::2]):
            own = [find_configuration(str(one)) for one in last]
            words = [f"--config={one}" for one in (find_configuration(config), *overlays, *own)]
            with pytest.raises(SystemExit) as ended:
                LitFedCLI(["fit", *words, *settings.set, *candidate, "--print_config"])
            assert ended.value.code == 0
            printed = yaml.safe_load(capsys.readouterr().out)
            given = [one.removeprefix("--").split("=", 1) for one in (*settings.set, *candidate)]
            for name, value in dict(given).items():  # the last of a name counts
                found = printed
                for key in name.split("."):
                    found = found[-1] if isinstance(found, list) else found
                    found = found[key] if key in found else found["init_args"][key]
                told = yaml.safe_load(value)
                assert found in (told, {"class_path": told})
            rule, clients = printed["model"]["init_args"].get("aggregation"), printed["data"]
            assert clients["num_clients"] is None or takes(rule, clients["num_clients"]), arm
            # a setting of all arms must not undo what an arm is
            printed["trainer"].pop("name")
            alone = json.dumps([number, place, printed], sort_keys=True)
            assert compared.setdefault(alone, arm) == arm


ON_SMALL_FILES = {
    "abourayya2026/embedded": {},
    "abourayya2026/sst2": {},
    "aggregation/rules": {},
    "attacks/adaptive": {"public_size": 24},
    "attacks/after": {},
    "attacks/rates": {},
    "attacks/triggers": {},
    "bergman/sst2": {"public_size": 24},
    "bergman/sst2_taught": {"public_size": 24},
    "different_models/sst2": {},
    "robust/one": {},
    "selectors/embedded": {},
    "short_answers/questions": {"public_size": 6},
    "wang2026/aggregators": {},
    "wang2026/dolly": {},
    "wang2026/dolly_rewritten": {},
    "wang2026/paradox": {},
    "weak_client/embedded": {},
    "weak_client/sst2": {},
}
"""Studies of data that a test can write, with what few rows ask for."""


def arms_on_small_files() -> list[Any]:
    """Each arm of these studies, with the last of its variants: in those of defences the strongest attack."""
    found = []
    for name in ON_SMALL_FILES:
        given = yaml.safe_load((CONFIGS / "studies" / f"{name}.yaml").read_text("utf-8"))
        configs = given["configs"]
        arms = configs if isinstance(configs, dict) else {one: [one] for one in configs}
        found += [pytest.param(name, arm, own, id=f"{name}-{arm}") for arm, own in arms.items()]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("study_name", "arm", "own"), arms_on_small_files())
def test_every_arm_runs_as_its_study_has_it(
    study_name: str, arm: str, own: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    sst2_files(tmp_path)
    instruction_files(tmp_path)
    encoder = save_toy_model(tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2")
    BertModel.from_pretrained(encoder).save_pretrained(encoder)  # without its head of two labels
    save_toy_lm(tmp_path / "HuggingFaceTB" / "SmolLM2-135M-Instruct", positions=256)
    given = yaml.safe_load((CONFIGS / "studies" / f"{study_name}.yaml").read_text("utf-8"))
    config, *last = own
    variants = list((given.get("variants") or {"": []}).values())
    files = [config, *given.get("overlays", []), *variants[-1], *last]
    tune = given.get("tune", {"candidates": [[]], "metric": "round"})
    settings = [*given.get("set", []), *tune.get("own", {}).get(arm, tune["candidates"])[0]]
    smaller = ["--trainer.fast_dev_run=true", "--trainer.check_val_every_n_rounds=1"]
    size = ON_SMALL_FILES[study_name].get("public_size", 8)
    if any("public_size" in one for one in settings) or "sst2" in " ".join(files):
        smaller.append(f"--data.public_size={size}")
    if config == "prototype_defense":
        few = ["--model.num_prototypes=4", "--model.held_out=0.5"]
        smaller += [*few, "--model.encoder.init_args.epochs=1"]
    words = [f"--config={find_configuration(one)}" for one in files]
    cli = LitFedCLI(["fit", *words, *settings, *smaller])
    (row,) = cli.trainer.federation.history
    assert row["clients/failed"] == 0
    assert {tune["metric"], tune.get("otherwise")} & set(row)
    wanted = {metric.partition("@")[0] for metric in given["metrics"]}
    # a column of the table is of arms with a global model, or of those without
    assert wanted & {*row, *cli.trainer.final_metrics}


@pytest.mark.parametrize("path", CLAIMS, ids=[path.parent.name for path in CLAIMS])
def test_claims_compare_arms_of_the_papers_studies(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# lit-fed-study claims --config {path.relative_to(CONFIGS.parent)}\n")
    settings = auto_parser(claims, as_positional=False).parse_args([f"--config={path}"])
    studies = [yaml.safe_load(one.read_text("utf-8")) for one in path.parent.glob("*.yaml")]
    arms = set()
    for one in (one for one in studies if "configs" in one):
        below = [""]
        if "sweep" in one:
            ((setting, values),) = one["sweep"].items()
            below += [f"/{setting.rpartition('.')[2]}={value}" for value in values]
        if "variants" in one:
            below = [f"/variant={name}" for name in one["variants"]]
        arms |= {arm + own for arm in one["configs"] for own in below}
    compared = {arm for claim in settings.claims for one in claim.arms for arm in one.weights}
    compared |= {one.arm for claim in settings.claims for one in claim.curves}
    assert compared <= arms
    assert {arm for table in settings.tables for arm in table} <= arms
    assert {one["root"] for one in studies if "root" in one} == set(
        map(str, settings.roots.values())
    )
