"""What the trainer's settings must fulfil, alone and with the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import combinations
from typing import TYPE_CHECKING, Any

from lightning.fabric import Fabric
from lightning.fabric.loggers import Logger
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from lit_fed.aggregation import Aggregation
from lit_fed.attachment import Attachment, overrides
from lit_fed.attacks.row_poisoning import RowPoisoning
from lit_fed.attacks.teacher_corruption import TeacherCorruption
from lit_fed.client import Client
from lit_fed.data import FederatedDataModule
from lit_fed.federation.execution import ClientExecution
from lit_fed.federation.sampling import ClientSampler, clients_per_round
from lit_fed.limits import (
    is_number,
    require_at_least,
    require_instance,
    require_non_negative,
    require_none_or_at_least,
)
from lit_fed.methods.teachers import teachers_of
from lit_fed.module import FederatedModule
from lit_fed.privacy import DPSGD

if TYPE_CHECKING:
    from datasets import Dataset

_OPTIMIZER_WORDS = {
    "learning rate": "lr",
    "weight_decay": "weight_decay",
    "weight decay": "weight_decay",
    "epsilon": "eps",
    "beta": "betas",
    "momentum": "momentum",
}
"""How torch's optimizers call their settings in errors."""


def check_settings(settings: Mapping[str, Any], execution: ClientExecution) -> None:
    """Check every number the trainer was given.

    Args:
        settings: The trainer's settings by name.
        execution: How clients are run.

    Raises:
        ValueError: If one is out of range, naming the setting, what is expected and what came.
    """
    least = {
        "max_rounds": 1,
        "accumulate_grad_batches": 1,
        "min_clients": 0,
        "check_val_every_n_rounds": 1,
        "num_sanity_val_steps": 0,
        "fast_dev_run": 0,
    }
    if_given = {"rounds_per_task": 1, "local_epochs": 1, "local_steps": 1, "seed": 0}
    if settings["local_epochs"] is None and settings["local_steps"] is None:
        raise ValueError(
            "`trainer.local_epochs` or `trainer.local_steps` is expected to be at least 1, but both are null"
        )
    for name, bound in least.items():
        require_at_least(f"trainer.{name}", settings[name], bound)
    for name, bound in if_given.items():
        require_none_or_at_least(f"trainer.{name}", settings[name], bound)
    if settings["client_state_mb"] is not None:
        require_non_negative("trainer.client_state_mb", settings["client_state_mb"])
    if settings["compile"] and not execution.takes_compiled:
        raise ValueError(
            f"`trainer.compile` is expected to be false with `trainer.execution` "
            f"{type(execution).__name__}, which reaches into the layers"
        )
    if settings["privacy"] is not None:
        _check_private_settings(settings, execution)
    ratio = settings["max_update_norm_ratio"]
    if ratio is not None and not (is_number(ratio) and ratio > 1):
        raise ValueError(
            f"`trainer.max_update_norm_ratio` is expected to be above 1 or null, but got {ratio!r}"
        )
    clip = settings["gradient_clip_val"]
    if clip is not None and not (is_number(clip) and clip > 0):
        raise ValueError(
            f"`trainer.gradient_clip_val` is expected to be above 0 or null, but got {clip!r}"
        )
    for split in ("train", "val", "test", "predict"):
        limit = settings[f"limit_{split}_batches"]
        fewest = 1 if split == "train" else 0
        # written so that NaN is refused as well
        share = isinstance(limit, float)
        if not (is_number(limit) and limit >= 0) or (share and limit > 1) or (fewest and not limit):
            fraction = "above 0 and at most 1" if fewest else "in [0, 1]"
            raise ValueError(
                f"`trainer.limit_{split}_batches` is expected to be a count of at least {fewest} or a fraction "
                f"{fraction}, but got {limit!r}"
            )


def _check_private_settings(settings: Mapping[str, Any], execution: ClientExecution) -> None:
    """Refuse what gradients of single rows cannot be taken with."""
    if not execution.takes_privacy:
        raise ValueError(
            f"`trainer.execution` is expected to be SequentialClients, also in DistributedClients, with "
            f"`trainer.privacy`, which takes the gradient of each row, but got {type(execution).__name__}"
        )
    if settings["compile"]:
        raise ValueError(
            "`trainer.compile` is expected to be false with `trainer.privacy`, which reaches into the layers"
        )
    if settings["accumulate_grad_batches"] > 1:
        raise ValueError(
            "`trainer.accumulate_grad_batches` is expected to be 1 with `trainer.privacy`, of which a step of a larger "
            f"`data.batch_size` is the same, but got {settings['accumulate_grad_batches']}"
        )


def check_privacy(
    privacy: DPSGD, settings: Mapping[str, Any], fabric: Fabric, module: FederatedModule
) -> None:
    """Check that the gradients of single rows can be taken of a method and its models.

    Args:
        privacy: ``trainer.privacy``.
        settings: The trainer's settings by name.
        fabric: The precision.
        module: The method.

    Raises:
        ValueError: If they cannot, or an attachment chooses rows by other rows.
    """
    if getattr(fabric.strategy.precision, "scaler", None) is not None:
        raise ValueError(
            f"`trainer.precision` is expected to scale no gradients with `trainer.privacy`, which bounds them, as "
            f"bf16-mixed, bf16-true and 32-true do, but got {settings['precision']}"
        )
    for attachment in settings["attachments"]:
        if attachment.compares_rows:
            raise ValueError(
                "`trainer.attachments` are expected to take each row by itself with `trainer.privacy`, whose ε is of "
                "a row that changes nothing but its own gradient, but got "
                f"{type(attachment).__name__}, which chooses rows by all rows of the client"
            )
    privacy.check_model(module)
    module.check_private()


def require_privacy(module: FederatedModule) -> None:
    """Say that a method that has to train with privacy is to train without.

    Args:
        module: The method.

    Raises:
        ValueError: If it has to.
    """
    if module.needs_privacy:
        raise ValueError(
            f"`trainer.privacy` is expected to be a lit_fed.privacy.DPSGD with {type(module).__name__}, which trains "
            "with privacy alone, but got null"
        )


def check_private_rows(privacy: DPSGD, data: FederatedDataModule) -> None:
    """Check that clients' rows can be drawn one by one, and that δ is small enough for them.

    Args:
        privacy: ``trainer.privacy``.
        data: The clients' data.

    Raises:
        ValueError: If they cannot, or it is not.
    """
    if data.encoding.packing:
        raise ValueError(
            "`data.encoding.packing` is expected to be false with `trainer.privacy`, which takes the gradient of each "
            "row, but got true"
        )
    for client in data.clients:
        privacy.check_rows(client.id, len(client.rows))


def check_parts(
    sampler: Any, execution: Any, attachments: Any, callbacks: Any, loggers: Any
) -> None:
    """Check that the trainer was given objects, not their classes.

    Args:
        sampler: ``trainer.sampler``.
        execution: ``trainer.execution``.
        attachments: ``trainer.attachments``.
        callbacks: ``trainer.callbacks``.
        loggers: ``trainer.loggers``.

    Raises:
        TypeError: If one is something else than its class, naming the setting.
    """
    require_instance("trainer.sampler", sampler, ClientSampler)
    require_instance("trainer.execution", execution, ClientExecution)
    given: tuple[tuple[str, Any, type[Any]], ...] = (
        ("attachments", attachments, Attachment),
        ("callbacks", callbacks, Callback),
        ("loggers", None if isinstance(loggers, bool) else loggers, Logger),
    )
    for name, value, kind in given:
        for one in value if isinstance(value, list | tuple) else [value]:
            require_instance(f"trainer.{name}", one, kind)


def check_federation(settings: Mapping[str, Any], data: FederatedDataModule) -> None:
    """Check the settings that depend on the data.

    Args:
        settings: The trainer's settings by name.
        data: The clients' data.

    Raises:
        ValueError: If a round asks for more clients than there are, more have to finish than take part, clients are to
            be validated and have nothing to be validated on, or there are rounds for tasks, but no tasks.
    """
    if settings["rounds_per_task"] is not None:
        if data.tasks is None:
            raise ValueError(
                f"`trainer.rounds_per_task` is {settings['rounds_per_task']}, which expects a sequence of "
                "tasks, but `data.tasks` is null"
            )
        for task in data.tasks:
            if not any(len(client.rows) for client in data.clients_in(task)):
                raise ValueError(
                    f"`data.tasks` names {task!r}, of which no client has rows to train on"
                )
    count = clients_per_round(settings["clients_per_round"], len(data.clients))
    if settings["min_clients"] > count:
        raise ValueError(
            f"`trainer.min_clients` is expected to be at most the {count} clients of a round, but got "
            f"{settings['min_clients']}"
        )
    unvalidated = data.validation is None and any(c.validation is None for c in data.clients)
    if settings["validate_clients"] and unvalidated:
        raise ValueError(
            "`trainer.validate_clients` expects validation rows, but `data.validation` is null and "
            "`data.validation_fraction` and `data.client_validation_fraction` are 0"
        )


def check_attachments(
    attachments: Sequence[Attachment], module: FederatedModule, data: FederatedDataModule
) -> None:
    """Check that what is attached to clients' rounds has something to act on, and let it make ready for the data.

    Args:
        attachments: The attachments.
        module: The method.
        data: The clients' data.

    Raises:
        ValueError: If one names a client that there is not, acts on the predictions of a teacher where the method
            has none, or on changes where a client sends weights that it has not downloaded, remembers changes of
            LoRA's factors where these are others in each round, poisons rows behind an attachment that has replaced
            them, or corrupts a teacher for a trigger that no row has; and what the attachment refuses by itself.
    """
    ids = {client.id for client in data.clients}
    for attachment in attachments:
        kind = type(attachment).__name__
        if unknown := sorted((attachment.clients or frozenset()) - ids):
            raise ValueError(
                f"`trainer.attachments` {kind} acts on clients that are expected to be among "
                f"{', '.join(sorted(ids))}, but got {', '.join(unknown)}"
            )
        require_teacher([attachment], module)
        if attachment.acts_on_changes:
            _require_downloaded(attachment, module, data)
        if attachment.remembers_changes:
            _require_basis(attachment, module)
        if attachment.replaces_rows:
            module.check_replaced_rows(f"`trainer.attachments` {kind}")
        attachment.attach(module, data)
    _require_own_rows(attachments, ids)
    _say_shared_rows([one for one in attachments if isinstance(one, RowPoisoning)])
    for attachment in attachments:
        if isinstance(attachment, TeacherCorruption):
            attachment.count_rows(_attacked_rows(attachments, data, attachment))


def _require_basis(attachment: Attachment, module: FederatedModule) -> None:
    """Raise where remembered changes of LoRA's factors are none of the next round's, and warn where they are nearly."""
    rule = getattr(module, "aggregation", None)
    if not isinstance(rule, Aggregation) or rule.basis == "kept":
        return
    kind, name = type(attachment).__name__, type(rule).__name__
    if rule.basis == "new":
        raise ValueError(
            f"`trainer.attachments` {kind} adds what it remembers of a client's changes to those of later rounds, "
            f"which expects a `model.aggregation` that keeps the basis of LoRA's factors, but {name} broadcasts others "
            "in each round; an attachment that remembers nothing goes with it, as TopK with `error_feedback` false"
        )
    rank_zero_warn(
        f"`trainer.attachments` {kind} adds what it remembers of a client's changes to those of later rounds, of which "
        f"`model.aggregation` {name} has made LoRA's factors anew by then: what is added is near to what the client "
        "owes, and not the same. `geometry` lit_fed.aggregation.robust.Coordinates keeps the factors, and TopK with "
        "`error_feedback` false remembers nothing"
    )


def _require_own_rows(attachments: Sequence[Attachment], ids: AbstractSet[str]) -> None:
    """Raise where an attack would poison what has taken the place of a client's rows, or what a defence has judged."""
    for number, attack in enumerate(attachments):
        if not isinstance(attack, RowPoisoning):
            continue
        poisoned = ids if attack.clients is None else attack.clients
        for before in attachments[:number]:
            replaced = ids if before.clients is None else before.clients
            if before.replaces_rows and not replaced.isdisjoint(poisoned):
                raise ValueError(
                    f"`trainer.attachments` {type(attack).__name__} is expected before {type(before).__name__}, which "
                    "gives clients other rows than the attack has chosen among, but comes behind it"
                )
            if before.defends and overrides(before, "rows") and not replaced.isdisjoint(poisoned):
                raise ValueError(
                    f"`trainer.attachments` {type(attack).__name__} is expected before {type(before).__name__}, which "
                    "would not see what it poisons, but comes behind it"
                )


def _attacked_rows(
    attachments: Sequence[Attachment], data: FederatedDataModule, attack: TeacherCorruption
) -> dict[str, Dataset]:
    """The rows of the clients that an attack acts on, as all but defences leave them in the first round."""
    found = {}
    for index, own in enumerate(data.clients):
        client = Client(own.id, index, len(own.rows), round=0, rounds=0, steps=0)
        if attack.acts_on(client):
            rows = own.rows
            for one in attachments:
                if not one.defends and one.acts_on(client):
                    rows = one.rows(client, rows)
            found[own.id] = rows
    return found


def _say_shared_rows(attacks: Sequence[RowPoisoning]) -> None:
    """Warn of rows that two attacks poison, so that neither has the rows that its rate says."""
    for first, second in combinations(attacks, 2):
        if shared := first.shared_rows(second):
            rank_zero_warn(
                f"`trainer.attachments` {type(first).__name__} (seed {first.seed}) and {type(second).__name__} (seed "
                f"{second.seed}) both poison {shared:,} of the same rows, and what the second one writes there stands: "
                "another `seed` leaves fewer of them, and other `clients` or `candidates` of both none"
            )


def require_teacher(attachments: Sequence[Attachment], module: FederatedModule) -> None:
    """Raise where an attachment acts on the predictions of a teacher, and a method has none.

    Args:
        attachments: The attachments.
        module: The method.

    Raises:
        ValueError: Naming the attachment and the method.
    """
    for attachment in attachments:
        if overrides(attachment, "teacher_prediction") and not teachers_of(module):
            raise ValueError(
                f"`trainer.attachments` {type(attachment).__name__} acts on a teacher's predictions, which expects a "
                f"method with a teacher, but {type(module).__name__} has none"
            )


def _require_downloaded(
    attachment: Attachment, module: FederatedModule, data: FederatedDataModule
) -> None:
    """Raise where a client sends weights that it does not download, such as factors that start anew each round."""
    weights = module.initial_weights()
    for index, own in enumerate(data.clients):
        client = Client(own.id, index, len(own.rows), round=0, rounds=0, steps=0)
        if not attachment.acts_on(client):
            continue
        downloaded = module.broadcast_to(client, weights).tensors
        module.act_as(client)
        expected = module.expected_upload()
        module.act_as(None)
        for name, tensor in ({} if expected is None else expected.tensors).items():
            known = downloaded.get(name)
            if tensor.dtype.is_floating_point and (known is None or known.shape != tensor.shape):
                raise ValueError(
                    f"`trainer.attachments` {type(attachment).__name__} acts on the change of what clients have "
                    f"downloaded, but by `model.aggregation` {own.id!r} sends {name!r}, which it does not download"
                )


def check_method(module: FederatedModule, validate_clients: bool) -> None:
    """Check the settings that depend on the method.

    Args:
        module: The method.
        validate_clients: Whether clients are validated.

    Raises:
        ValueError: If the aggregation needs a validation of the clients and there is none, the method
            steps its optimizers itself, an optimizer refuses its settings, or a model keeps running statistics.
    """
    _check_optimizers(module)
    for name, backbone in module.backbones.items():
        for place, part in backbone.model.named_modules():
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is not None:
                raise ValueError(
                    f"`model.{name}` is expected to keep no running statistics, which would pass from one client to "
                    f"the next beside all that is sent, but {place} is a {type(part).__name__}: replace it, as by a "
                    "LayerNorm, or give it track_running_stats false"
                )
    if not module.automatic_optimization:
        raise ValueError(
            f"`automatic_optimization` of {type(module).__name__} is expected to be true in a federation, whose "
            "clients' rounds are counted in optimizer steps; several optimizers are several stages"
        )
    if module.needs_client_validation and not validate_clients:
        rule = type(getattr(module, "aggregation", module)).__name__
        raise ValueError(
            f"`model.aggregation` {rule} takes the clients' validation scores, which expects "
            "`trainer.validate_clients` to be true"
        )


def check_validated(module: FederatedModule, limit_val_batches: float | None) -> None:
    """Check that clients are validated before training, where the method goes by that.

    Args:
        module: The method.
        limit_val_batches: Of the trainer.

    Raises:
        ValueError: If it does, and no batch is looked at.
    """
    if module.needs_client_validation and limit_val_batches == 0:
        raise ValueError(
            f"`trainer.limit_val_batches` is expected not to be 0, since {type(module).__name__} goes by the "
            "validation of its clients here, but got 0"
        )


def _check_optimizers(module: FederatedModule) -> None:
    """Make each stage's optimizer once: it would refuse its settings in the first client's round otherwise."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for stage in module.stages if trained else ():
        make, setting = module.make_optimizer, "model.optimizer"
        if stage.optimizer is not None:
            make, setting = stage.optimizer, f"the optimizer of the stage {stage.name!r}"
        try:
            make(trained)
        except ValueError as error:
            names = [
                name for words, name in _OPTIMIZER_WORDS.items() if words in str(error).lower()
            ]
            setting = ".".join([setting, *names[:1]]) if make is module.make_optimizer else setting
            raise ValueError(f"`{setting}` is refused by the optimizer: {error}") from error
