"""FederatedTrainer: the settings of a federated run, its fit and its evaluation entry points."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from lightning.fabric.loggers import Logger
from lightning.fabric.strategies import Strategy
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.attachment import Attachment
from lit_fed.backbones import Sampling
from lit_fed.backbones.master_weights import require_wide
from lit_fed.callbacks import check_callbacks, check_loggers, default_callbacks
from lit_fed.callbacks.adapter_export import export_model
from lit_fed.callbacks.run_facts import tested_before
from lit_fed.data import FederatedDataModule
from lit_fed.federation.callback_events import CallbackEvents
from lit_fed.federation.client.local_settings import LocalSettings
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.private_training import PrivateTraining
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.client_selection import ClientSelection
from lit_fed.federation.execution import ClientExecution, SequentialClients
from lit_fed.federation.fabric import make_fabric
from lit_fed.federation.generation import GenerationSettings
from lit_fed.federation.lightning_compatibility import LightningCompatibility
from lit_fed.federation.loop import FederationLoop
from lit_fed.federation.randomness import resolve_seed
from lit_fed.federation.round import RoundSettings
from lit_fed.federation.run.identity import (
    decides_predictions,
    difference_lines,
    differences,
    identity_of,
)
from lit_fed.federation.run.run import Run
from lit_fed.federation.run.run_folder import (
    ClaimedFolder,
    claim_run_folder,
    find_checkpoint,
    last_run_folder,
    run_folder,
)
from lit_fed.federation.sampling import ClientSampler, UniformSampler, clients_per_round
from lit_fed.federation.state import FederationState
from lit_fed.federation.validation import (
    check_attachments,
    check_federation,
    check_method,
    check_parts,
    check_privacy,
    check_private_rows,
    check_settings,
    check_validated,
    require_privacy,
)
from lit_fed.limits import require_folder_name, require_instance, require_path
from lit_fed.module import FederatedModule
from lit_fed.privacy import DPSGD
from lit_fed.suggestion import did_you_mean
from lit_fed.timers import Timers

Settings = TypeVar("Settings", LocalSettings, RoundSettings)


class _Left(NamedTuple):
    """What a fit has left, to which evaluations go back that name no other checkpoint or data."""

    module: FederatedModule
    datamodule: FederatedDataModule
    state: FederationState


class FederatedTrainer(LightningCompatibility):
    """Trains a :class:`~lit_fed.FederatedModule` over the clients of a :class:`~lit_fed.data.FederatedDataModule`.

    A round samples clients, trains each on its own rows from the last broadcast, aggregates what they
    upload into the next broadcast, and evaluates that. After every round the whole state is replaced
    at once and checkpointed, so a run that is killed goes on with ``ckpt_path="last"`` as if nothing
    had happened.

    Args:
        accelerator: As in Lightning: ``auto``, ``cpu``, ``gpu``, …
        strategy: As in Lightning Fabric.
        devices: As in Lightning Fabric.
        num_nodes: As in Lightning Fabric.
        precision: As in Lightning Fabric, such as ``32-true`` or ``bf16-mixed``.
        max_rounds: Rounds of the federation.
        rounds_per_task: Rounds of each task in ``data.tasks``, one task after the other; if set, it
            replaces ``max_rounds``. A client takes part with its rows of the task under way.
        clients_per_round: Clients sampled in a round: an integer is a count, a float a fraction.
        local_epochs: Passes of a client over its rows in a round. None where ``local_steps`` is set.
        local_steps: Optimizer steps of a client in a round; if set, it replaces ``local_epochs``.
        accumulate_grad_batches: Batches whose gradients make one optimizer step, that of one large batch: means are
            over the tokens or rows of all of them; see :meth:`FederatedModule.training_step`.
        gradient_clip_val: Bound of the gradient before a step. None: no clipping.
        gradient_clip_algorithm: ``norm`` (of all gradients together) or ``value`` (of each).
        sampler: Chooses a round's clients. None: uniformly, without replacement.
        execution: How the clients of a round are run. None: one after the other.
        attachments: What is done from outside to clients' rows, teachers' predictions and uploads, in order.
        privacy: Lets clients train by DP-SGD, and says what it is worth: (ε, δ) for single rows. None: without.
        compile: Whether to try ``torch.compile`` on the model's layers before the first round. It is kept
            where training steps are measured to be faster; the ratio is said.
        min_clients: Clients that must finish a round, else the run ends. 0: a round without any
            keeps the global state.
        max_update_norm_ratio: How many times the round's median update norm a client's update may have: one
            that is larger is left out, named and counted as a failure. What a client changes is compared, where
            clients send weights. The honest clients of the configuration ``lora_fedavg`` stay below 4, also where the
            smallest has 18 rows and the largest 249; the default leaves room for those who take many more steps
            than others. Every round reports ``clients/update_norm/median`` and ``/max``. None: every finite
            update counts.
        validate_clients: Whether each client's model is validated after its training, on its own
            held-out rows or, if it has none, on the common ones. Always so for methods without a
            global model.
        keep_optimizer_state: Whether a client keeps its optimizer's moments between rounds.
        client_state_mb: Megabytes (2²⁰ bytes) of memory for what stays with the clients between
            rounds: their private states and moments; and as many for the uploads of a round until they
            are aggregated. What exceeds it lies in files of the run's folder, or of a temporary one.
            None: there is no bound.
        check_val_every_n_rounds: Rounds between two validations of the global model or, where there is none and the
            method needs no more, of the clients' own.
        test_at_end: Whether ``fit`` ends with a test of the global model.
        limit_train_batches: Batches of a client's epoch: an integer is a count, a float a fraction, of which at least
            one batch is left. So are the limits below.
        limit_val_batches: Batches of a validation.
        limit_test_batches: Batches of a test, for each test set.
        limit_predict_batches: Batches of a prediction.
        num_sanity_val_steps: Validation batches tried before the first round.
        fast_dev_run: One round with that many batches (True: 1) everywhere, and no files. A client has the first of
            its rows alone, as many as its batches hold, so that no more are rewritten or prepared otherwise.
        seed: Seed of everything random in the run. None: that of ``seed_everything``, else 0.
        callbacks: Lightning callbacks, which may also have the rounds' hooks. One of a default
            callback's class takes its place.
        loggers: True: TensorBoard in the run's folder. False: none. Or Lightning's loggers.
        default_root_dir: The run's folder, in which one run at a time can be under way. None: the next free
            ``runs/<name>/version_<n>``.
        name: Name of the run, a folder's. None: the name of the method's class.
        enable_progress_bar: Whether to show the progress of rounds and clients.
        enable_checkpointing: Whether to write a checkpoint after every round.
        resume_with_changes: Whether a run may go on from a checkpoint although its data or settings differ;
            the differences are then said and are in the summary. Else they are an error that names each.
            What may always change is listed in :mod:`lit_fed.federation.run.identity`.

    Raises:
        TypeError: If a class is given where an instance of it is expected.
        ValueError: If a setting is out of its range, or not for this machine.

    Example:
        >>> trainer = FederatedTrainer(max_rounds=2, fast_dev_run=True, enable_progress_bar=False)
        >>> trainer.max_rounds
        1
    """

    def __init__(
        self,
        *,
        accelerator: str = "auto",
        strategy: str | Strategy = "auto",
        devices: list[int] | str | int = 1,
        num_nodes: int = 1,
        precision: Literal[
            "32-true", "16-mixed", "bf16-mixed", "bf16-true", "16-true", "64-true"
        ] = "32-true",
        max_rounds: int = 10,
        rounds_per_task: int | None = None,
        clients_per_round: int | float = 1.0,
        local_epochs: int | None = 1,
        local_steps: int | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = 1.0,
        gradient_clip_algorithm: Literal["norm", "value"] = "norm",
        sampler: ClientSampler | None = None,
        execution: ClientExecution | None = None,
        attachments: list[Attachment] | None = None,
        privacy: DPSGD | None = None,
        compile: bool = False,
        min_clients: int = 1,
        max_update_norm_ratio: float | None = 100.0,
        validate_clients: bool = False,
        keep_optimizer_state: bool = False,
        client_state_mb: float | None = None,
        check_val_every_n_rounds: int = 1,
        test_at_end: bool = True,
        limit_train_batches: int | float = 1.0,
        limit_val_batches: int | float = 1.0,
        limit_test_batches: int | float = 1.0,
        limit_predict_batches: int | float = 1.0,
        num_sanity_val_steps: int = 2,
        fast_dev_run: bool | int = False,
        seed: int | None = None,
        callbacks: list[Callback] | Callback | None = None,
        loggers: bool | Logger | list[Logger] = True,
        default_root_dir: str | None = None,
        name: str | None = None,
        enable_progress_bar: bool = True,
        enable_checkpointing: bool = True,
        resume_with_changes: bool = False,
    ) -> None:
        # before anything is changed, and the sampler before it learns
        self._given = {name: value for name, value in locals().items() if name != "self"}
        self._given["sampler"] = copy.deepcopy(sampler)
        self.fast_dev_run = int(fast_dev_run)
        if self.fast_dev_run:
            max_rounds, num_sanity_val_steps, enable_checkpointing, loggers = 1, 0, False, False
            local_steps = None if local_steps is None else min(local_steps, self.fast_dev_run)
            limit_train_batches = limit_val_batches = limit_test_batches = limit_predict_batches = (
                self.fast_dev_run
            )
        check_parts(sampler, execution, attachments, callbacks, loggers)
        require_instance("trainer.privacy", privacy, DPSGD)
        self.max_rounds = max_rounds
        self.rounds_per_task = rounds_per_task
        self.clients_per_round = clients_per_round
        self.local_epochs = local_epochs
        self.local_steps = local_steps
        self.accumulate_grad_batches = accumulate_grad_batches
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm
        self.sampler = sampler or UniformSampler()
        self.execution = execution or SequentialClients()
        self.attachments = attachments or []
        self.privacy = privacy
        self.compile = compile
        self.min_clients = min_clients
        self.max_update_norm_ratio = max_update_norm_ratio
        self.validate_clients = validate_clients
        self.keep_optimizer_state = keep_optimizer_state
        self.client_state_mb = client_state_mb
        self.check_val_every_n_rounds = check_val_every_n_rounds
        self.test_at_end = test_at_end
        self.limit_train_batches = limit_train_batches
        self.limit_val_batches = limit_val_batches
        self.limit_test_batches = limit_test_batches
        self.limit_predict_batches = limit_predict_batches
        self.num_sanity_val_steps = num_sanity_val_steps
        self.seed = resolve_seed(seed)
        self.default_root_dir = require_path("trainer.default_root_dir", default_root_dir)
        self.name = require_folder_name("trainer.name", name)
        self.resume_with_changes = resume_with_changes
        self.precision = precision
        check_settings(vars(self), self.execution)

        self.fabric = make_fabric(
            accelerator=accelerator,
            strategy=self.execution.strategy(strategy),
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,
        )
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])
        check_callbacks(given)
        check_loggers(loggers)
        files = not self.fast_dev_run
        self.callbacks = default_callbacks(
            given, enable_progress_bar, enable_checkpointing and files, files
        )
        self._loggers_setting = loggers
        self.callback_metrics: dict[str, torch.Tensor] = {}
        self.final_metrics: dict[str, float] = {}
        self.timers = Timers()
        self.events = CallbackEvents(self, self.callbacks, self.callback_metrics)
        self.should_stop = False
        self._left: _Left | None = None
        self.interrupted = False
        self.fitting = False
        self.sanity_checking = False
        self.log_dir: Path | None = None
        self._claimed: ClaimedFolder | None = None

    # ---------------------------------------------------------------- the entry points

    def fit(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Run the federation.

        An interrupt (Ctrl-C) ends it after a checkpoint of the last finished round.

        Args:
            model: The method.
            datamodule: The clients' data. None: the embedded translations.
            ckpt_path: A checkpoint folder to go on from, a run's folder (its latest checkpoint), or of the run in
                ``default_root_dir`` the ``last`` or the ``best`` checkpoint.

        Raises:
            ConfigurationError: If a client finds an error of the run's, or all fail alike in the first round.
            OSError: If another run is under way in the run's folder, or nothing can be written there.
            RuntimeError: If fewer than ``min_clients`` clients finish a round, or the new global model is not
                finite.
        """
        root, name = self.default_root_dir, self.run_name(model)
        require_path("ckpt_path", ckpt_path)
        # what is wrong with it is known before the data are read
        found = find_checkpoint(ckpt_path, root, name)
        folder = run_folder(ckpt_path, found, root, name)
        if ckpt_path and found is None:
            rank_zero_warn(f"`ckpt_path` is 'last', but {folder} has no checkpoint yet")
        try:
            self._fit(model, datamodule or FederatedDataModule(), ckpt_path)
        finally:
            if self._claimed is not None:
                self._claimed.release()
                self._claimed = None

    def _fit(
        self, model: FederatedModule, datamodule: FederatedDataModule, ckpt_path: str | None
    ) -> None:
        """Run the federation in a folder that is its own until it ends."""
        claim = partial(claim_run_folder, ckpt_path, self.default_root_dir, self.run_name(model))
        loop, found = self._attach("fit", model, datamodule, None, claim=claim)
        # how an earlier fit of this trainer has ended says nothing of this one
        self.should_stop = self.interrupted = False
        self.final_metrics = {}
        self.callback_metrics.clear()
        self.call("setup", "fit")  # as in Lightning, before a checkpoint is loaded
        if found:
            loop.load(found, with_changes=self.resume_with_changes)
        else:
            loop.begin()
        # TensorBoard hides what an earlier process has logged from here on
        again = loop.state.reported < self.current_round or self.current_round >= self.max_rounds
        first = self.current_round + (0 if again else 1)
        loop.run.start_logging(self._loggers_setting, first)
        if self.is_global_zero:
            loop.run.restore_logs(loop.state.history[: first - 1])
        self.fitting = settled = True
        try:
            self._sanity_check(loop)
            settled = False
            self.call("on_fit_start")
            settled = True
            if again and self.current_round:
                self._report(loop)
            if self.current_round < self.max_rounds:
                loop.prepare()
            if self.compile:
                loop.compile()
            self.events.report_to_callbacks(model, "on_train_start")
            while not self.is_last_round:
                self.start_epoch()
                loop.prepare()
                metrics = loop.run_round()
                self._report(loop)
                # before the round is kept, so that what callbacks have counted is kept with it
                self.end_epoch()
                self.call("on_round_end", metrics)
            loop.act_as_server()
            self.events.report_to_callbacks(model, "on_train_end")
            if self.test_at_end and self.datamodule.tests:
                self.final_metrics = self._evaluate("test")
                self._log(self.final_metrics)
            self.call("on_fit_end")
            loop.run.clear_prepared()
        except KeyboardInterrupt as interrupt:
            self.interrupted = True
            rank_zero_warn(
                f"interrupted after {self.current_round} finished rounds; "
                "go on with ckpt_path='last'"
            )
            self.call("on_exception", interrupt)
        except BaseException as error:
            if settled:  # else a callback refuses its settings, which a command tells in one line
                error.add_note(
                    f"raised by the federation after {self.current_round} finished rounds"
                )
            self.call("on_exception", error)
            raise
        finally:
            self.fitting = False
            self._left = _Left(model, self.datamodule, loop.state)
            model.train()
            self.call("teardown", "fit")
            loop.run.end_logging("interrupted" if self.interrupted else "success")

    def validate(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> list[dict[str, float]]:
        """Evaluate on the validation rows: the global model, and each client's own where there are such.

        Args:
            model: The method.
            datamodule: The data. None: that of the fit before, else the embedded translations.
            ckpt_path: A checkpoint folder, a run's folder (its latest checkpoint), or of the run in
                ``default_root_dir`` the ``last`` or the ``best`` checkpoint. None: the model as it is, which is said
                where it is untrained.

        Returns:
            One dictionary of metrics.

        Raises:
            ValueError: If there are no validation rows.
        """
        self._prepare(model, datamodule, ckpt_path, "validate")
        metrics = self._evaluate("validation")
        self.call("teardown", "validate")
        return [metrics]

    def test(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> list[dict[str, float]]:
        """Evaluate on every test set: the global model, and each client's own where there are such.

        Args:
            model: The method.
            datamodule: The data. None: that of the fit before, else the embedded translations.
            ckpt_path: A checkpoint folder, a run's folder (its latest checkpoint), or of the run in
                ``default_root_dir`` the ``last`` or the ``best`` checkpoint. None: the model as it is, which is said
                where it is untrained.

        Returns:
            One dictionary of metrics; those of a test set ``x`` beside the main one end in ``/x``.

        Raises:
            ValueError: If there are no test rows.
        """
        self._prepare(model, datamodule, ckpt_path, "test")
        metrics = self._evaluate("test")
        self.call("teardown", "test")
        return [metrics]

    def predict(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> list[Any]:
        """What the global model's ``predict_step`` returns for every batch of the test sets, in order.

        As in Lightning. Rows with their texts, the labels' names or generated text are :meth:`predictions`.

        Args:
            model: The method.
            datamodule: The data. None: that of the fit before, else the embedded translations.
            ckpt_path: A checkpoint folder, a run's folder (its latest checkpoint), or of the run in
                ``default_root_dir`` the ``last`` or the ``best`` checkpoint. None: the model as it is, which is said
                where it is untrained.

        Raises:
            ValueError: If the method has no global model, or there are no test rows.
        """
        self._prepare_to_predict(model, datamodule, ckpt_path, None)
        predicted = self._loop.predict(
            list(self.datamodule.tests.values()), self.limit_predict_batches
        )
        self.call("teardown", "predict")
        return predicted

    def predictions(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule | None = None,
        ckpt_path: str | None = None,
        client: str | None = None,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        cache: str | None = None,
        progress: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """A dictionary for every row of the test sets, one after the other, as ``lit-fed predict`` writes them.

        It has ``set`` and ``row`` (its position in that table), the table's other columns, and ``expected``,
        what the table says, if it has that column: rows to be predicted need none. Of a
        classifier it has the ``label`` and the ``probabilities`` by label; of a language model the
        ``generated`` text.

        Args:
            model: The method.
            datamodule: The data. None: that of the fit before, else the embedded translations.
            ckpt_path: A checkpoint folder, a run's folder (its latest checkpoint), or of the run in
                ``default_root_dir`` the ``last`` or the ``best`` checkpoint. None: the model as it is, which is said
                where it is untrained.
            client: The client whose own model predicts. None: the global model does.
            max_new_tokens: Tokens at most of a generated text. None: 128, or as many as the model has room for.
            sampling: How each token of a text is chosen. None: the likeliest one is taken.
            stop: Texts that end a generated text, and are cut off it.
            cache: A folder in which generated texts are kept by all that decides them, the model's weights among it:
                what is there is not generated again. None: nothing is kept.
            progress: Whether a bar shows how many texts are done, and the tokens a second.

        Raises:
            ValueError: If the method has no global model and `client` is None, there is no such client,
                or there are no test rows.
        """
        settings = GenerationSettings(max_new_tokens, sampling or Sampling(), stop, cache, progress)
        self._prepare_to_predict(model, datamodule, ckpt_path, client)
        index = None if client is None else self._client_index(client)
        rows = self._loop.predicted_rows(
            self.datamodule.tests, self.limit_predict_batches, index, settings
        )
        return self._until_teardown(rows)

    def export(
        self,
        model: FederatedModule,
        output: str,
        datamodule: FederatedDataModule | None = None,
        ckpt_path: str | None = None,
        client: str | None = None,
        merge: bool = False,
    ) -> None:
        """Write the model of a checkpoint to a folder that peft or transformers loads, with a model card.

        Args:
            model: The method.
            output: A new folder.
            datamodule: The data, for the clients' names. None: that of the fit before, else the embedded translations.
            ckpt_path: A checkpoint folder, a run's folder (its latest checkpoint), or of the run in
                ``default_root_dir`` the ``last`` or the ``best`` checkpoint. None: what the fit before has left.
            client: The client whose own model it is. None: the global model.
            merge: Whether adapters are merged into the base model, so that the folder holds all of it and
                ``from_pretrained`` of transformers loads it.

        Raises:
            FileExistsError: If there is something in ``output``.
            ValueError: If there is no such model, or its adapters cannot be merged.
        """
        target = Path(output).expanduser()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FileExistsError(
                f"`output` is expected to be a new folder, but {output!r} exists: remove it, or name another"
            )
        # Lightning's callbacks know no stage of this name
        found = self._prepare(model, datamodule, ckpt_path, "predict")
        index = None if client is None else self._client_index(client)
        before = self.final_metrics
        if found is not None:
            self.final_metrics = tested_before(found, self.current_round)
        try:
            export_model(self, model, target, index, merge)
        finally:
            self.final_metrics = before
            self.call("teardown", "predict")

    # ---------------------------------------------------------------- making ready

    def _client_index(self, client: str) -> int:
        """The position of a client among all.

        Raises:
            ValueError: If there is no such client.
        """
        ids = [one.id for one in self.datamodule.clients]
        if client not in ids:
            raise ValueError(
                f"`client` is expected to be one of {', '.join(ids[:20])}{', …' * (len(ids) > 20)}, but got "
                f"{client!r}{did_you_mean(client, ids)}"
            )
        return ids.index(client)

    def _prepare_to_predict(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule | None,
        ckpt_path: str | None,
        client: str | None,
    ) -> None:
        self._prepare(model, datamodule, ckpt_path, "predict")
        if not model.has_global_model and client is None:
            raise ValueError(
                f"predict expects a method with a global model, but {type(model).__name__} has none: name the "
                "client whose model predicts as `client` of `predictions` or of lit-fed predict"
            )
        if not self.datamodule.tests:
            raise ValueError(_without_rows("predict", "test"))

    def _until_teardown(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        yield from rows
        self.call("teardown", "predict")

    def _prepare(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule | None,
        ckpt_path: str | None,
        stage: str,
    ) -> Path | None:
        """Make ready to evaluate a checkpoint, which is returned, what the fit before left, or the model as it is."""
        root, name = self.default_root_dir, self.run_name(model)
        require_path("ckpt_path", ckpt_path)
        found = find_checkpoint(ckpt_path, root, name)
        if ckpt_path and found is None:
            raise FileNotFoundError(
                f"`ckpt_path` is 'last', but {last_run_folder(root, name)} has no checkpoint"
            )
        left = self._left if self._left is not None and self._left.module is model else None
        before = self._fitted if self._fitted is not None and self._fitted.module is model else None
        if datamodule is None:
            last = FederatedDataModule() if before is None else self.datamodule
            datamodule = last if left is None else left.datamodule
        if before is None:
            loop, _ = self._attach(stage, model, datamodule, self.log_dir)
            if not found and left is None:
                loop.begin()
                self._say_untrained(model, stage)
        elif datamodule is not self.datamodule:
            loop, _ = self._attach(stage, model, datamodule, self.log_dir, before.training.resident)
            loop.state = before.state
        else:
            datamodule.setup(stage)
        if found:
            self._loop.load(found, decides_predictions(model), self.resume_with_changes)
        elif left is not None:
            self._loop.state = left.state
        self.call("setup", stage)
        return found

    def _attach(
        self,
        stage: str,
        model: FederatedModule,
        datamodule: FederatedDataModule,
        folder: Path | None,
        resident: ResidentModule | None = None,
        claim: Callable[[], ClaimedFolder] | None = None,
    ) -> tuple[FederationLoop, Path | None]:
        """Take the module and its data in, after all that can be wrong has been checked.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
            model: The method.
            datamodule: The clients' data.
            folder: The run's folder.
            resident: The module where it has been set up already, on other data.
            claim: Takes the folder of a fit, which ``folder`` does not name then.

        Returns:
            The loop, and the checkpoint to go on from.
        """
        self._check_model(stage, model)
        self._take_callbacks(model)
        self._take_data(stage, model, datamodule)
        # before the module is on devices, or in parts
        identity = identity_of(model, datamodule, vars(self))
        if resident is None:
            resident = ResidentModule(model, self.execution.setup_module(self.fabric, model))
        if stage == "fit":
            require_wide({name: p for name, p in model.named_parameters() if p.requires_grad})
        # what a module logs goes through its metric_averager, and a stock Trainer may have it next
        model.fabric = None
        training = self._training(resident, datamodule)
        selection = ClientSelection(
            datamodule, self.sampler, self.clients_per_round, self.seed, self.rounds_per_task
        )
        self.log_dir, found = self._agree(identity, folder, claim)
        run = Run(None if self.fast_dev_run else self.log_dir, identity, self.client_state_mb)
        if self._claimed is not None:
            # no process has made any files yet
            run.clear_leftovers()
        settings = self._settings(RoundSettings)
        self._fitted = FederationLoop(
            training, self.execution, selection, settings, run, self.callbacks
        )
        return self._fitted, found

    def _check_model(self, stage: str, model: FederatedModule) -> None:
        """Start the processes, and check the module by itself and against the trainer's settings."""
        if not isinstance(model, FederatedModule):
            raise TypeError(
                f"`model` is expected to be a FederatedModule, but got {type(model).__name__}"
            )
        execution, fabric = self.execution, self.fabric
        execution.check_processes(fabric.world_size)
        execution.check(fabric)
        fabric.launch()
        if not model.has_global_model:
            self.validate_clients = True
        check_method(model, self.validate_clients)
        if stage == "fit":
            execution.check_method(model)
            check_validated(model, self.limit_val_batches)
        if getattr(fabric.strategy.precision, "scaler", None) is not None:
            model.check_scaled()
        if self.rounds_per_task is not None:
            model.check_sequence()
        if self.privacy is not None:
            check_privacy(self.privacy, vars(self), fabric, model)
        elif stage == "fit":
            require_privacy(model)

    def _take_data(
        self, stage: str, model: FederatedModule, datamodule: FederatedDataModule
    ) -> None:
        """Set the data up, and check them against the module, the trainer's settings and the attachments."""
        datamodule.setup(stage)
        datamodule.check(model.backbones)
        check_federation(vars(self), datamodule)
        clients = [client.id for client in datamodule.clients]
        model.check_clients(clients, clients_per_round(self.clients_per_round, len(clients)))
        for attachment in self.attachments:
            attachment.setup(clients)
        self.datamodule = model.datamodule = datamodule
        check_attachments(self.attachments, model, datamodule)
        if self.privacy is not None:
            check_private_rows(self.privacy, datamodule)
        model.timers = self.timers
        if self.rounds_per_task and not self.fast_dev_run:
            self.max_rounds = self.rounds_per_task * len(datamodule.tasks or ())
        if stage == "fit" and not self.fast_dev_run:
            model.check_rounds(self.max_rounds)

    def _training(self, resident: ResidentModule, datamodule: FederatedDataModule) -> LocalTraining:
        """The training of one client, with noise where the trainer has ``privacy``."""
        parts = resident, datamodule, self.fabric, self._settings(LocalSettings), self.events
        if self.privacy is None:
            return LocalTraining(*parts, self.attachments)
        return PrivateTraining(*parts, self.attachments, privacy=self.privacy)

    def _agree(
        self,
        identity: dict[str, Any],
        folder: Path | None,
        claim: Callable[[], ClaimedFolder] | None,
    ) -> tuple[Path | None, Path | None]:
        """The folder and the checkpoint of the run: all processes keep the first one's, since disks may differ by now.

        Raises:
            OSError: If the first process cannot have the folder.
            ValueError: If this process has other data or settings than the first one.
        """
        found: Path | None = None
        problem: Exception | None = None
        if claim is not None and self.is_global_zero and not self.fast_dev_run:
            try:
                self._claimed = claim()
                folder, found = self._claimed.folder, self._claimed.found
            except (OSError, ValueError) as error:  # which the others have to know as well
                problem = error
        paths = [None if p is None else str(p) for p in (folder, found)]
        said = None if problem is None else str(problem)
        *agreed, first, said = self.execution.of_first_process([*paths, identity, said])
        if said is not None:
            raise problem or OSError(said)
        if unlike := difference_lines(differences(first, identity)):
            raise ValueError(
                f"process {self.fabric.global_rank} has other data or settings than the first one: "
                f"{'; '.join(unlike)}"
            )
        folder, found = (None if p is None else Path(p) for p in agreed)
        return folder, found

    def _take_callbacks(self, model: FederatedModule) -> None:
        """Take the callbacks that the module brings along; one of a class that is here replaces it, as in Lightning."""
        own = model.configure_callbacks()
        own = [own] if isinstance(own, Callback) else list(own)
        check_callbacks(own)
        kinds = {type(callback) for callback in own}
        kept = [callback for callback in self.callbacks if type(callback) not in kinds]
        # before the checkpoint, which holds what they do in a round; in place, since others hold this list
        self.callbacks[:] = [*own, *kept]

    def _settings(self, kind: type[Settings]) -> Settings:
        """Those of the trainer's settings that a class of them names."""
        return kind(**{name: getattr(self, name) for name in kind.__dataclass_fields__})

    def _say_untrained(self, model: FederatedModule, stage: str) -> None:
        if model.loaded_from is None:
            rank_zero_warn(
                f"{stage} takes {type(model).__name__} as it was given: this trainer has not trained it, and "
                "`ckpt_path` is null; name a checkpoint, or 'last', for a model that has been trained"
            )
        elif model.has_client_models or not model.has_global_model:
            rank_zero_warn(
                f"{stage} takes {type(model).__name__} as from_run has loaded it, without the clients' own models, "
                f"which are as they were built: name {str(model.loaded_from)!r} as `ckpt_path` for those of the run"
            )

    def _sanity_check(self, loop: FederationLoop) -> None:
        """Try a few validation batches, so that an error there does not cost a round."""
        rows = self.datamodule.validation
        if not (self.num_sanity_val_steps and rows and loop.module.has_global_model):
            return
        self.sanity_checking = True
        self.call("on_sanity_check_start")
        loop.evaluate({"validation": rows}, "validation", self.num_sanity_val_steps)
        self.call("on_sanity_check_end")
        self.callback_metrics.clear()
        self.sanity_checking = False

    @property
    def is_last_round(self) -> bool:
        """Whether no round follows the finished ones; see the base class."""
        return self.current_round >= self.max_rounds or self._stops()

    def _stops(self) -> bool:
        """Whether a callback has asked for an early end, in the first process."""
        return bool(self.execution.of_first_process(self.should_stop))

    def _evaluate(self, split: Literal["validation", "test"]) -> dict[str, float]:
        data, limit = self.datamodule, self.limit_val_batches
        sets = {} if data.validation is None else {"validation": data.validation}
        if split == "test":
            sets, limit = data.tests, self.limit_test_batches
        if not sets:
            raise ValueError(_without_rows(split, split))
        return self._loop.evaluate(sets, split, limit)

    def _report(self, loop: FederationLoop) -> None:
        """Publish the last finished round."""
        metrics = loop.state.history[-1]
        self._log(metrics)
        self.call("on_round_report", metrics)
        # before the round is kept: no run that goes on from it will publish it
        loop.run.flush_logs()
        loop.reported()

    def _log(self, metrics: dict[str, float]) -> None:
        """Give metrics of the last finished round to the loggers and to callbacks that monitor them."""
        self.callback_metrics |= {k: torch.tensor(v) for k, v in metrics.items()}
        self._loop.run.log(metrics, step=self.current_round)

    def beside(self, **changes: Any) -> FederatedTrainer:
        """Another trainer with the settings that this one was given, for a federation to compare this one with.

        It runs in this process, its clients one after the other, and takes no attachments, callbacks or privacy along,
        and none of what the sampler has learnt.

        Args:
            **changes: Settings that differ.
        """
        alone: dict[str, Any] = {
            "strategy": "auto",
            "devices": 1,
            "num_nodes": 1,
            "execution": None,
            "attachments": None,
            "callbacks": None,
            "privacy": None,
            "loggers": bool(self._given["loggers"]),  # in its own folder, not where this one's are
            "seed": self.seed,
        }
        given = {**self._given, "sampler": copy.deepcopy(self._given["sampler"])}
        return FederatedTrainer(**{**given, **alone, **changes})

    def run_name(self, model: FederatedModule) -> str:
        """The run's name: ``name``, else that of the method's class."""
        return self.name or type(model).__name__


def _without_rows(stage: str, split: str) -> str:
    """What is said where a stage has no rows."""
    return (
        f"{stage} expects `data.{split}` to have rows, but there are none: name them, as in "
        f"--data.{split} lit_fed.data.CSVSource --data.{split}.path rows.csv"
    )
