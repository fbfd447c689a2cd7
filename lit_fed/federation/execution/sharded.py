"""One client at a time in many processes, each with a part of the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.strategies import Strategy
from torch import Tensor

from lit_fed.backbones import Backbone
from lit_fed.backbones.anatomy import transformer_layers
from lit_fed.backbones.black_box import BlackBox
from lit_fed.data.features import IGNORED
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.results import ClientRound, Failed, Finished
from lit_fed.federation.execution.collectives import Collectives, ProcessLost
from lit_fed.federation.execution.multi_process import MultiProcessExecution, is_alone
from lit_fed.federation.execution.process_group import START, ShardStrategy
from lit_fed.federation.execution.sequential import SequentialClients
from lit_fed.losses import parts_of_a_batch
from lit_fed.metric_averager import MetricAverager
from lit_fed.module import FederatedModule
from lit_fed.packing import pack, unpack

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

PATIENCE = 60.0  # seconds in which all processes have come to the end of a client


class ShardedClients(SequentialClients, MultiProcessExecution):
    """All processes train one client after the other, each with a shard of the model and of every batch.

    For models that one device cannot hold. Weights, gradients and optimizer state are sharded by
    torch's FSDP2 (Zhao et al., 2023, https://arxiv.org/abs/2304.11277), also of the frozen base; a
    layer is gathered where it is needed. The rows of a batch are divided, and a loss is the mean over
    all of them, however unevenly their tokens fall: a client's result is that of one process up to
    rounding. Payloads and checkpoints hold whole tensors, so that a run can go on in any number of
    processes.

    A black box is asked by the first process, while the others wait for its answers.

    Evaluation runs every batch in every process. Processes draw the same random numbers, so that rows
    at the same place of two parts drop the same units.

    Args:
        timeout: Seconds that a process waits for the others: longer than a black box may take for all prompts.
        start_timeout: Seconds that a process waits for all to start, each of which builds the model and reads
            the data before.

    Raises:
        ValueError: If ``timeout`` or ``start_timeout`` is not above 0.
    """

    takes_compiled = False
    takes_gradients = False
    takes_privacy = False

    def __init__(self, timeout: float = 600.0, start_timeout: float = START) -> None:
        MultiProcessExecution.__init__(self, timeout, start_timeout)
        self._strategy = ShardStrategy(shard, timeout, start_timeout)
        # Processes that share every layer end a client together.
        self._lockstep: Collectives | None = None

    def strategy(self, given: str | Strategy) -> Strategy:
        """Processes with a shard of the model each; see :class:`ClientExecution`."""
        if given not in ("auto", "fsdp") and given is not self._strategy:
            raise ValueError(
                "`trainer.strategy` is expected to be auto or fsdp with ShardedClients, which shards by FSDP2, "
                f"but got {given!r:.60}"
            )
        return self._strategy

    def setup_module(self, fabric: Fabric, module: FederatedModule) -> Any:
        """Shard the backbone; see :class:`ClientExecution`.

        Raises:
            ValueError: If the method or its backbone cannot be sharded.
        """
        module.check_split()
        inside = {id(p) for p in module.backbone.parameters()}
        outside = [n for n, p in module.named_parameters() if id(p) not in inside]
        if outside:
            raise ValueError(
                f"`trainer.execution` ShardedClients expects a method whose parameters are those of one backbone, "
                f"but {type(module).__name__} has {outside[0]} beside it"
            )
        if not is_alone():
            if self._lockstep is None:
                self._lockstep = Collectives(min(PATIENCE, self.timeout))
            for part in module.modules():
                if isinstance(part, BlackBox):
                    part.ask_together(self.collectives.rank == 0, self.collectives.of_first)
        return super().setup_module(fabric, module)

    def run(
        self, training: LocalTraining, starts: Sequence[ClientRound]
    ) -> Iterator[Finished | Failed]:
        """Train the clients in order, together; see :class:`ClientExecution`.

        Raises:
            ProcessLost: If a process has died, or a client has failed in some of them only.
        """
        if not is_alone():
            training = ShardedTraining(training, self.collectives)
        for result in super().run(training, starts):
            if not is_alone():
                self._agree(result)
            if isinstance(result, Failed):
                _forget_pass(training.module.backbone)
            yield result

    def _agree(self, result: Finished | Failed) -> None:
        """Make sure that all processes have come to the same: they cannot go on otherwise."""
        if isinstance(result, Finished):
            own, failed = "", False
        else:
            own, failed = str(result.error), True
        lockstep = self._lockstep or self.collectives
        try:
            every = [unpack(d)[0] for d in lockstep.gather(pack([failed, own]))]
        except ProcessLost as lost:
            said = f"; before that a client failed here: {own}" if failed else ""
            raise ProcessLost(f"{lost}{said}") from lost
        words = [words for failed, words in every if failed]
        if words and len(words) < len(every):
            raise ProcessLost(
                f"a client failed in {len(words)} of {len(every)} processes, which no longer hold the same; go on "
                f"from the last finished round with ckpt_path='last': {words[0]}"
            )


class ShardedTraining(LocalTraining):
    """A client's training on this process's rows of each batch.

    Args:
        training: A client's training on all rows.
        collectives: Between the processes.
    """

    processes_share_clients = True

    def __init__(self, training: LocalTraining, collectives: Collectives) -> None:
        super().__init__(
            training.resident,
            training.data,
            training.fabric,
            training.settings,
            training.events,
            training.attachments,
        )
        self.collectives = collectives

    def own_rows(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of the rows."""
        return part_of(batch, self.fabric.global_rank, self.fabric.world_size)

    def loss(self, batch: dict[str, Tensor], index: int) -> Any:
        """This process's part of the mean over the whole batch."""
        processes = int(self.fabric.world_size)

        def whole_total(count: Tensor) -> Tensor:
            total = count.detach().clone()
            dist.all_reduce(total)
            return total / processes

        with parts_of_a_batch(whole_total):
            return super().loss(batch, index)

    def means(self, averager: MetricAverager) -> dict[str, float]:
        """What was logged, over all processes."""
        own = super().means(averager)
        every = [unpack(data)[0] for data in self.collectives.gather(pack(own))]
        return {name: math.fsum(one[name] for one in every) / len(every) for name in own}


def part_of(batch: dict[str, Tensor], part: int, parts: int) -> dict[str, Tensor]:
    """One of equally many rows of a batch each; the last row fills up, with weight 0 and no labels.

    Args:
        batch: Fields [B, ...].
        part: Which part, from 0.
        parts: How many there are.

    Example:
        >>> batch = {"labels": torch.tensor([4, 5, 6])}
        >>> part_of(batch, 0, 2)["labels"], part_of(batch, 1, 2)
        (tensor([4, 5]), {'labels': tensor([   6, -100]), 'weight': tensor([1., 0.])})
    """
    rows = len(next(iter(batch.values())))
    each = -(-rows // parts)
    places = torch.arange(part * each, (part + 1) * each)
    real = places < rows
    own = {name: field[places.clamp(max=rows - 1)] for name, field in batch.items()}
    if each * parts == rows:
        return own
    if "labels" in own:
        own["labels"][~real] = IGNORED
    weight = own.get("weight", torch.ones(each))
    return own | ({"weight": weight * real} if not real.all() or "weight" in own else {})


def shard(module: Any, mesh: DeviceMesh) -> Any:
    """Shard the weights of a module's backbone over a row of processes, each transformer layer by itself.

    Args:
        module: A federated module. Called again for one that is sharded, nothing happens.
        mesh: All processes.

    Raises:
        ValueError: If the backbone is quantised, or its adapters are prompts.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    backbone = module.backbone
    model = backbone.model
    if isinstance(model, FSDPModule):
        return module
    _require_shardable(backbone)
    for layer in transformer_layers(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    # Also the rest: adapters are read and switched between the passes, where they have to be sharded.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    if mesh.device_type != "cpu":
        module.to(torch.device(mesh.device_type, torch.accelerator.current_device_index()))
    return module


def _require_shardable(backbone: Backbone) -> None:
    if getattr(backbone.model, "is_quantized", False) or any(
        not p.is_floating_point() for p in backbone.parameters()
    ):
        raise ValueError(
            "`model.backbone.quantization` is expected to be null with ShardedClients, which cannot shard packed "
            "weights"
        )
    config = getattr(backbone.model, "active_peft_config", None)
    if config is not None and config.is_prompt_learning:
        raise ValueError(
            "`model.backbone.peft` is expected to be no prompts with ShardedClients, since peft computes them outside "
            f"the layers that are sharded, but got {type(config).__name__}"
        )


def _forget_pass(backbone: Backbone) -> None:
    """Leave a pass that broke off behind."""
    reset = getattr(backbone.model, "reset_iter_state", None)
    if reset is not None:
        reset()
