"""The commands that train and evaluate: ``lit-fed fit | validate | test | predict --config …``."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)

from lit_fed import aggregation, callbacks, data, federation, methods, perturbations
from lit_fed.atomic_files import whole_file, write_file
from lit_fed.backbones import Sampling
from lit_fed.callbacks.run_summary import metrics_table
from lit_fed.checkpoint_files import last_checkpoint
from lit_fed.cli.commands import EXAMPLES, RUNS
from lit_fed.cli.hub import upload
from lit_fed.cli.parser import LitFedParser
from lit_fed.configuration_error import ConfigurationError
from lit_fed.configurations import with_configurations
from lit_fed.data import FederatedDataModule
from lit_fed.federation import ProcessLost
from lit_fed.federation.run.identity import RunDiffers
from lit_fed.module import FederatedModule
from lit_fed.standard_output import console
from lit_fed.trainer import FederatedTrainer

_PREDICT: dict[str, tuple[Any, Any, str]] = {
    "output": (
        str | None,
        None,
        "A new file for the predictions, a line of JSON for each row. null: they are printed.",
    ),
    "client": (
        str | None,
        None,
        "The client whose own model predicts. null: the global model does.",
    ),
    "max_new_tokens": (
        int | None,
        None,
        "Tokens at most of a generated text. null: 128, or as many as the model has room for.",
    ),
    "sampling": (
        Sampling,
        Sampling(),
        "How each token of a generated text is chosen.",
    ),
    "stop": (
        list[str] | None,
        None,
        "Texts that end a generated text, and are cut off it.",
    ),
    "cache": (
        str | None,
        None,
        "A folder in which generated texts are kept, each batch when it is done: what is there is not generated "
        "again, as after a crash. null: nothing is kept.",
    ),
}

_EXPORT: dict[str, tuple[Any, Any, str]] = {
    "push_to_hub": (
        str | None,
        None,
        "A name on the hub, owner/name, to which the folder is uploaded with the token that `hf auth login` has saved. "
        "null: nothing leaves this machine.",
    ),
    "private": (bool, True, "Whether a repository that is made on the hub is a private one."),
}


class SaveRunConfig(SaveConfigCallback):
    """Writes the run's ``config.yaml`` into its folder: when it starts, and when it goes on with other settings.

    Leave to go on with changes is for once: the file does not say ``resume_with_changes``.
    """

    def setup(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        """Save the configuration of a run that starts; the trainer has made sure that the folder belongs to it."""
        if stage == "fit" and trainer.log_dir is not None and not last_checkpoint(trainer.log_dir):
            self._save(trainer)

    def on_train_start(self, trainer: Any, pl_module: LightningModule) -> None:
        """Save that of a run that goes on, which its checkpoint has not refused."""
        if trainer.log_dir is not None:
            self._save(trainer)

    def _save(self, trainer: Any) -> None:
        if trainer.is_global_zero:
            config = self.config.clone()
            config.trainer.resume_with_changes = False
            # not by the parser's own way, which leaves half a file where it is killed
            text = self.parser.dump(config, skip_none=False)
            write_file(trainer.log_dir / self.config_filename, text)


class LitFedCLI(LightningCLI):
    """A LightningCLI whose trainer is a :class:`~lit_fed.FederatedTrainer`.

    Args:
        args: The command line as a list, or None: that of the process.
    """

    def __init__(self, args: ArgsType = None) -> None:
        _import_what_may_be_named()
        words = sys.argv[1:] if args is None else args
        self._command = words[0] if isinstance(words, list) and words else None
        super().__init__(
            FederatedModule,
            FederatedDataModule,
            trainer_class=FederatedTrainer,  # type: ignore[arg-type]  # not Lightning's, see add_core_arguments_to_parser
            save_config_callback=SaveRunConfig,
            subclass_mode_model=True,
            seed_everything_default=0,
            parser_class=LitFedParser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={
                "prog": "lit-fed",
                "description": "Federated fine-tuning of language models.",
                "env_prefix": "LIT_FED",
            },
            args=args,
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Register the trainer by its signature: Lightning's own way takes subclasses of its Trainer only."""
        parser.add_class_arguments(FederatedTrainer, "trainer", instantiate=False)
        parser.add_lightning_class_args(FederatedModule, "model", subclass_mode=True)
        parser.add_lightning_class_args(FederatedDataModule, "data", subclass_mode=False)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static in Lightning, called on the object
        """The subcommands, and the arguments of their methods that are made from the configuration.

        Only the one that the command line begins with, if it does: each has a parser of all settings.
        """
        names = [self._command] if self._command in RUNS else RUNS
        return {name: {"model", "datamodule"} for name in names}

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        """Add what the command takes beside its method of the trainer."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.epilog = f"Example: {EXAMPLES[subcommand]}"
        further = {"predict": _PREDICT, "export": _EXPORT}.get(subcommand, {})
        for name, (kind, default, help_) in further.items():
            parser.add_argument(f"--{name}", type=kind, default=default, help=help_)
        self._subcommand_method_arguments[subcommand] += further
        return parser

    def before_instantiate_classes(self) -> None:
        """Take the run of the configuration, and refuse to write over predictions before anything takes time."""
        run = self._run_given()
        trained = run is not None and last_checkpoint(run) is not None
        # a run's own configuration says null, and is given for what the run has trained; of a model that is not
        # trained there is nothing to be exported
        means_last = self.subcommand == "export" or (trained and self.subcommand != "fit")
        if means_last and self._get(self.config, "ckpt_path") is None:
            self.config[self.subcommand].ckpt_path = "last"
        if self._get(self.config, "ckpt_path") in ("last", "best"):
            self._stay_in(run)
        output = self._get(self.config, "output")
        if self.subcommand == "predict" and output and Path(output).expanduser().exists():
            raise FileExistsError(
                f"`output` is expected to be a new file, but {output!r} exists: remove it, or name another"
            )

    def _run_given(self) -> Path | None:
        """The folder of the run whose own ``config.yaml`` is given; None where there is none."""
        given = [Path(str(path)).absolute() for path in self._get(self.config, "config") or ()]
        runs = [p.parent for p in given if p.name == "config.yaml"]
        runs = [run for run in runs if (run / "checkpoints").is_dir()]
        return runs[-1] if runs else None

    def _stay_in(self, run: Path | None) -> None:
        """Where a run's own ``config.yaml`` is given, the last and the best checkpoint are those of this run.

        So it is as well where the folder has another name by now than its configuration says.

        Args:
            run: The run's folder, if its configuration is given.
        """
        if run is None:
            return
        trainer = self._get(self.config, "trainer")
        saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        if trainer.default_root_dir in (None, saved["trainer"]["default_root_dir"]):
            trainer.default_root_dir = str(run)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; ``--config`` takes names, and a bare ``--model.help`` means the class that ``--model`` names."""
        if args is not None and not isinstance(args, list):
            super().parse_arguments(parser, args)
        else:
            words = sys.argv[1:] if args is None else args
            self.config = parser.parse_args(_with_model_in_help(with_configurations(words)))

    def _parse_ckpt_path(self) -> None:
        """Read no settings from the checkpoint, as Lightning does: a round's is a folder beside its ``config.yaml``."""

    def validate(self, **kwargs: Any) -> None:
        """Evaluate on the validation rows and print the metrics."""
        _print_metrics(self.trainer, self.trainer.validate(**kwargs), "validation")

    def test(self, **kwargs: Any) -> None:
        """Evaluate on the test rows and print the metrics."""
        _print_metrics(self.trainer, self.trainer.test(**kwargs), "test")

    def predict(
        self,
        output: str | None = None,
        client: str | None = None,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        stop: list[str] | None = None,
        cache: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a line of JSON for every row of the test sets, see :meth:`~lit_fed.FederatedTrainer.predictions`."""
        trainer: Any = self.trainer  # LightningCLI types it as Lightning's
        rows = trainer.predictions(
            client=client,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop=stop or (),
            cache=cache,
            progress=self._get(self.config, "trainer").enable_progress_bar,
            **kwargs,
        )
        lines = (json.dumps(row, ensure_ascii=False, default=str) for row in rows)
        if not trainer.is_global_zero:
            for _ in lines:  # of a sharded model each process computes a part
                pass
        elif output is None:
            for line in lines:
                print(line)
        else:
            print(f"{_written(lines, Path(output).expanduser())} rows are in {output}")

    def export(
        self, output: str, push_to_hub: str | None = None, private: bool = True, **kwargs: Any
    ) -> None:
        """Write a model to a folder, see :meth:`~lit_fed.FederatedTrainer.export`, and upload it if asked to."""
        trainer: Any = self.trainer  # LightningCLI types it as Lightning's
        trainer.export(output=output, **kwargs)
        if not trainer.is_global_zero:
            return
        print(f"the model is in {output}")
        if push_to_hub is not None:
            print(f"uploaded to {upload(Path(output).expanduser(), push_to_hub, private)}")


def _written(lines: Iterable[str], path: Path) -> int:
    """Write lines to a new file, which is there when it is whole, and count them."""
    count = 0
    with whole_file(path) as writing, writing.open("w", encoding="utf-8") as file:
        for count, line in enumerate(lines, 1):  # noqa: B007 (the last one is the number of lines)
            file.write(f"{line}\n")
    return count


def _import_what_may_be_named() -> None:
    """Import the classes that a command line may name without their module: the parser looks among those imported."""
    for package in (aggregation, callbacks, data, federation, methods, perturbations):
        for name in package.__all__:
            getattr(package, name)


def _with_model_in_help(words: list[str]) -> list[str]:
    """``--model A --model.help`` as ``--model A --model.help A``, which jsonargparse asks for."""
    named = [b for a, b in pairwise(words) if a == "--model"]
    named += [word.removeprefix("--model=") for word in words if word.startswith("--model=")]
    if not named:
        return words
    return [f"--model.help={named[-1]}" if word == "--model.help" else word for word in words]


def _own_words(error: BaseException) -> str:
    """What was raised first: jsonargparse wraps it once for every nested class it makes."""
    while str(error).startswith("Does not validate against") and error.__cause__ is not None:
        said = re.findall(
            r"class_path '([^']+)':\s+(.+?)\n\s*(?:- |Given value type:)", str(error), re.DOTALL
        )
        if said and str(error.__cause__).startswith("Expected a "):
            # the cause is that of the first alternative, which may be another type than was meant
            return " ".join(f"`{said[-1][0]}`: {said[-1][1]}".split())
        error = error.__cause__
    if isinstance(error, RunDiffers):  # a line for each difference
        return str(error)
    return " ".join(str(error).split())


def _print_metrics(trainer: Any, results: Any, split: str) -> None:
    if trainer.is_global_zero:
        console().print(metrics_table([], results[0], split))


def run(args: ArgsType = None) -> None:
    """Run a command that trains or evaluates.

    What is wrong with the settings or the data is known before the first round, and said in one line;
    set ``LIT_FED_DEBUG=1`` for the traceback.

    Args:
        args: The command line as a list, or None: that of the process.
    """
    # jsonargparse spells out every default of a LoraConfig, and peft remarks that this one is not used
    warnings.filterwarnings("ignore", ".*`loftq_config` specified but will be ignored", UserWarning)
    try:
        cli = LitFedCLI(args)
    except (ValueError, TypeError, OSError, ImportError) as error:
        # the trainer adds a note to what is raised once the rounds have begun: no setting's fault
        in_rounds = hasattr(error, "__notes__") and not isinstance(error, ConfigurationError)
        if os.environ.get("LIT_FED_DEBUG") or in_rounds:
            raise
        sys.exit(f"lit-fed: error: {_own_words(error)}")
    except ProcessLost as lost:
        sys.exit(f"lit-fed: error: {lost}")
    if cli.trainer.interrupted:
        sys.exit(130)
