"""Several configurations × seeds by one command: their table and their figure.

``lit-fed-study --configs [lora_fedavg,mine/ddg.yaml] --seeds [0,1,2] --root runs/study``
``lit-fed-study claims --config studies/zou2024/claims``
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from lit_fed.atomic_files import whole_file, write_file
from lit_fed.configurations import find_configuration, with_configurations
from lit_fed.limits import require_at_least, require_distinct, require_folder_name
from lit_fed.study.arm import Arm, arms
from lit_fed.study.execution import execute
from lit_fed.study.figure import Kind, draw
from lit_fed.study.records import restore_records, save_records
from lit_fed.study.run import Run
from lit_fed.study.table import results_csv, results_table
from lit_fed.study.tuning import Tuning, tuned_table

METRICS = ("test/accuracy", "test/loss")
Swept = tuple[str, list[int | float | str]]


def study(
    configs: list[Path] | dict[str, list[Path]],
    seeds: tuple[int, ...] = (0, 1, 2),
    root: Path = Path("runs/study"),
    name: str = "results",
    overlays: tuple[Path, ...] = (),
    sweep: dict[str, list[bool | int | float | str]] | None = None,
    jobs: int = 0,
    metrics: list[str] | None = None,
    figure: Kind | None = None,
    set: tuple[str, ...] = (),
    tune: Tuning | None = None,
    variants: dict[str, list[Path]] | None = None,
    records: Path | None = None,
) -> None:
    """Run every configuration with every seed, and print and save the table of mean ± standard deviation.

    What has ended is not run again and what was broken off goes on from its checkpoint, so the same
    command continues a study; studies with the same root, overlays and settings share their runs. A run
    that fails is named at the end and does not stop the others.

    Args:
        configs: YAML files of ``lit-fed fit``, or names of packaged ones. Or, where an arm needs settings of its own,
            a list by each arm's name, of its YAML and those that come over it after all others, such as
            ``{each: [semantic_consensus], once: [semantic_consensus, once.yaml]}``.
        seeds: Values of ``seed_everything``.
        root: Folder of the study. A run is in ``<root>/<name of the arm or YAML>/seed_<seed>``.
        name: The results are ``<root>/<name>.csv`` (one row a run), ``.md`` (the table) and ``.png``.
        overlays: YAML files whose settings come over those of every configuration.
        sweep: One setting and the values it takes, for instance
            ``model.perturbation.init_args.scale: [0.05, 0.1]``.
        jobs: Runs at a time, which share the cores. 0: as many as there are cores, at most 8.
        metrics: Columns of the table, by their names in ``summary.json``, or in the row of a round, as in
            ``backdoor/asr@7``. None: the test's accuracy and loss.
        figure: ``bars`` for each configuration, ``rounds``: metrics against rounds, ``sweep``: against the
            swept values. None: ``sweep`` where there is one, else ``bars``.
        set: Settings for every run, each as on the command line, such as ``--trainer.max_rounds=2``.
        tune: What is tried for each arm before, and by what it is chosen. ``<root>/<name>.tuned.md`` says
            what was. None: the configurations are run as they are.
        variants: Further overlays by a name, with each of which every configuration is run, for instance
            ``{plain: [], rewritten: [rewriting/embedded]}``. A run is then in
            ``<root>/<name of the YAML>/variant=<name>/seed_<seed>``. Each is tuned on its own.
        records: A file of runs that have ended, here or elsewhere, which can be published with the results: they are
            taken from it, and those that end are added. None: there is none.

    Raises:
        FileNotFoundError: If a configuration is missing.
        FileExistsError: If ``root`` holds a run of one of these names with other settings.
        ValueError: If ``records`` is another file, ``name`` or a variant's is no name of a folder, a seed or a swept
            value is there twice, more than one setting is swept, one is swept in variants, no run that has ended has
            one of the metrics, or rounds are to be drawn without any.
        SystemExit: With code 1, after the table, if a run failed.
    """
    require_folder_name("name", name)
    for setting, given in (("configs", configs), ("seeds", seeds)):
        if not given:
            raise ValueError(f"`{setting}` is expected to have one at least, but there is none")
    require_distinct("seeds", seeds)
    require_at_least("jobs", jobs, 0)
    own = _by_name(configs)
    overlays = tuple(find_configuration(str(overlay)) for overlay in overlays)
    if sweep is not None and len(sweep) != 1:
        raise ValueError(f"`sweep` is expected to name one setting, but names {list(sweep)}")
    if sweep is not None and variants is not None:
        raise ValueError(
            f"`sweep` is expected to be left out where there are `variants`, but sweeps {next(iter(sweep))}"
        )
    swept = None
    if sweep is not None:
        ((setting, values),) = sweep.items()
        if not values:
            raise ValueError(f"`sweep.{setting}` is expected to have values, but there is none")
        require_distinct(f"sweep.{setting}", values)
        # as in YAML: Python's name of a truth value is none there
        swept = (setting, [str(one).lower() if isinstance(one, bool) else one for one in values])
    if figure == "rounds" and not metrics:
        raise ValueError("`metrics` is expected where `figure` is rounds, but there are none")
    found = {
        name: [find_configuration(str(overlay)) for overlay in given]
        for name, given in (variants or {}).items()
    }
    compared = arms(own, overlays, None if variants is None else found)
    console = Console()
    if records is not None and records.is_file():
        restore_records(records, root)
    chosen: dict[str, list[str]] = {}
    if tune is not None:
        if both := sorted({*seeds} & {*tune.seeds}):
            raise ValueError(
                f"`tune.seeds` is expected to hold none of the study's `seeds`, but holds {both[0]}"
            )
        chosen = _tuned(tune, compared, root, set, jobs, console, root / name, records)
    runs = _runs(compared, seeds, root, swept, set, chosen)
    for run in runs:
        run.check()
    # What has ended already knows its metrics, before hours are spent on the others; an arm of which nothing has ended
    # may have metrics of its own.
    ended = {run.name for run in runs if run.summary is not None}
    if ended >= {run.name for run in runs}:
        _require_metrics(runs, metrics or [], figure)
    failed = execute(runs, jobs, console, _keeping(records, runs, root))
    results = root / name
    # all metrics are in this file, also where the table is refused
    write_file(_named(results, ".csv"), results_csv(runs))
    _require_metrics(runs, metrics or [], figure)
    _report(runs, results, metrics or list(METRICS), figure, swept, console)
    for run in failed:
        console.print(
            f"failed: {run.config} with seed {run.seed}, see {run.folder / 'log.txt'}",
            soft_wrap=True,
        )
    if failed:
        sys.exit(1)


def _by_name(configs: list[Path] | dict[str, list[Path]]) -> dict[str, list[Path]]:
    """The arms' YAMLs by their names.

    Raises:
        ValueError: If two files have one name.
    """
    if isinstance(configs, dict):
        return {
            name: [find_configuration(str(one)) for one in own] for name, own in configs.items()
        }
    found: dict[str, list[Path]] = {}
    for path in (find_configuration(str(config)) for config in configs):
        if path.stem in found:
            raise ValueError(
                f"`configs` are expected to have names of their own, but {found[path.stem][0]} and {path} are both "
                f"{path.stem}: name arms, {{first: [{found[path.stem][0]}], …}}"
            )
        found[path.stem] = [path]
    return found


def _runs(
    compared: Sequence[Arm],
    seeds: tuple[int, ...],
    root: Path,
    sweep: Swept | None,
    settings: tuple[str, ...],
    chosen: Mapping[str, Sequence[str]],
) -> list[Run]:
    """All runs, each seed's together: where time runs out, the seeds that are done are done for all.

    What was chosen for an arm comes after the settings of all.
    """
    runs = []
    for seed in seeds:
        for arm in compared:
            folder, given = root / arm.name, (*settings, *chosen.get(arm.name, ()))
            if sweep is None:
                own = folder / f"seed_{seed}"
                runs.append(Run(arm.config, seed, own, arm.overlays, given, arm.variant, arm.row))
                continue
            setting, values = sweep
            for value in values:
                # a path among the values makes no folders of its own
                told = quote(str(value), safe=" +,:=@[]", errors="surrogatepass")
                own = folder / f"{setting.rpartition('.')[2]}={told}" / f"seed_{seed}"
                swept = (*given, f"--{setting}={value}")
                runs.append(Run(arm.config, seed, own, arm.overlays, swept, value, arm.row))
    return runs


def _tuned(
    tune: Tuning,
    compared: Sequence[Arm],
    root: Path,
    settings: tuple[str, ...],
    jobs: int,
    console: Console,
    results: Path,
    records: Path | None,
) -> dict[str, list[str]]:
    """The settings that are chosen for each arm."""
    trials = {arm: tune.trials(arm, root, settings) for arm in tune.tuned(compared)}
    runs = [run for tried in trials.values() for candidate in tried for run in candidate]
    for run in runs:
        run.check()
    for run in execute(runs, jobs, console, _keeping(records, runs, root)):
        console.print(f"failed: {run.folder}, see {run.folder / 'log.txt'}", soft_wrap=True)
    chosen = {arm: tune.best(arm, tried) for arm, tried in trials.items()}
    failed = {
        arm.name: f"{count} of {len(tried)}"
        for arm, tried in trials.items()
        if (count := sum(any(run.summary is None for run in candidate) for candidate in tried))
    }
    metric = tune.metric if tune.otherwise is None else f"{tune.metric}, else {tune.otherwise}"
    table = tuned_table({arm.name: best for arm, best in chosen.items()}, metric, failed)
    write_file(_named(results, ".tuned.md"), table + "\n")
    console.print(table, soft_wrap=True, markup=False, highlight=False)
    if tune.variant is None:
        return {arm.name: candidate for arm, (candidate, _) in chosen.items()}
    by_row = {arm.row: candidate for arm, (candidate, _) in chosen.items()}
    return {arm.name: by_row[arm.row] for arm in compared}


def _keeping(records: Path | None, runs: Sequence[Run], root: Path) -> Callable[[], None] | None:
    """What keeps the runs that have ended in the file of records, if there is one."""
    if records is None:
        return None
    path = records
    return lambda: save_records(path, runs, root)


def _require_metrics(runs: list[Run], metrics: list[str], figure: Kind | None) -> None:
    """Raise where a metric is one that no run has, if any run has ended.

    Raises:
        ValueError: Naming the nearest metrics that there are.
    """
    ended = [(run, s) for run in runs if (s := run.summary) is not None]
    if figure == "rounds":  # a line is of what rounds have
        known = {name for run, _ in ended for row in run.history for name in row}
    else:
        known = {name for _, summary in ended for name in summary["metrics"]}
        known |= {m for m in metrics if any(run.figure(m) is not None for run, _ in ended)}
    for metric in metrics:
        if ended and metric not in known:
            near = difflib.get_close_matches(metric, sorted(known), n=3) or sorted(known)
            raise ValueError(
                f"`metrics` is expected to name metrics of the runs, such as {', '.join(near)}, but got {metric}, "
                "which none has"
            )


def _report(
    runs: list[Run],
    path: Path,
    metrics: list[str],
    figure: Kind | None,
    sweep: Swept | None,
    console: Console,
) -> None:
    table = results_table(runs, metrics)
    write_file(_named(path, ".md"), table + "\n")
    kind: Kind = figure or ("bars" if sweep is None else "sweep")
    label = sweep[0] if sweep else "value"
    with whole_file(_named(path, ".png")) as writing:
        draw(runs, metrics, kind, label).savefig(writing, dpi=150)
    console.print(table, soft_wrap=True, markup=False, highlight=False)


def _named(results: Path, ending: str) -> Path:
    """A file of the results, whose name may have a dot."""
    return results.with_name(results.name + ending)


def main() -> None:
    """The command ``lit-fed-study``; ``--config`` takes the arguments from a YAML.

    ``lit-fed-study claims`` holds a paper's claims against runs; see :func:`lit_fed.study.claims.claims`.
    """
    from jsonargparse import auto_cli

    from lit_fed.plain_help import PlainHelp

    words, name = sys.argv[1:], "lit-fed-study"
    command: Callable[..., None] = study
    example = "--configs '[lora_fedavg,fedprox]' --seeds '[0,1]' --root runs/compared"
    if words[:1] == ["claims"]:
        from lit_fed.study.claims import claims

        command, words, name = claims, words[1:], f"{name} claims"
        example = "--config studies/zou2024/claims --output claims.md"
    try:
        auto_cli(
            command,
            as_positional=False,
            args=with_configurations(words),
            prog=name,
            formatter_class=PlainHelp,
            epilog=f"Example: {name} {example}",
        )
    except (OSError, ValueError) as error:
        sys.exit(f"lit-fed-study: error: {error}")
