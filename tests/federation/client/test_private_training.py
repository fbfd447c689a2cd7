"""Clients that train by DP-SGD: beside a plain loop, their noise, their account, and what is refused."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus.accountants import RDPAccountant
from torch import Tensor

from lit_fed import DDG, FedAvg, FederatedModule, FederatedTrainer, FedProx
from lit_fed.callbacks import FederatedCallback
from lit_fed.data import FederatedDataModule, IIDPartitioner, InstructionEncoding
from lit_fed.data.records import InstructionRecords
from lit_fed.defenses import CUBE, ActivationClustering
from lit_fed.federation import DistributedClients, ShardedClients, VectorizedClients
from lit_fed.federation.client.private_training import epsilon_of
from lit_fed.federation.validation import check_private_rows
from lit_fed.losses import cross_entropy, over_public_rows
from lit_fed.methods.ddg import NoConsensus
from lit_fed.methods.teachers import AdapterTeacher
from lit_fed.privacy import DPSGD
from lit_fed.update import Update
from tests.federation.toy import (
    toy_backbone,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
    without_times,
)
from tests.methods.toy_methods import save_sober_model

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("toy") / "model")


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.5)


def fed_avg(folder: Path, optimizer: Callable[[Any], Any] = sgd) -> FedAvg:
    return FedAvg(toy_backbone(folder), optimizer=optimizer)


def trainer(root: Path, privacy: DPSGD | None, **settings: Any) -> FederatedTrainer:
    given = {
        "privacy": privacy,
        "max_rounds": 1,
        "clients_per_round": 1.0,
        "gradient_clip_val": None,
        "num_sanity_val_steps": 0,
        "test_at_end": False,
        "enable_checkpointing": False,
    }
    return toy_trainer(root, **given | settings)


class Sent(FederatedCallback):
    """What each client sends."""

    def __init__(self) -> None:
        self.updates: dict[str, Update] = {}

    def on_client_end(self, trainer: Any, module: Any, update: Update) -> None:
        self.updates[update.client_id] = update


def changes(
    folder: Path, root: Path, privacy: DPSGD, data: FederatedDataModule, **settings: Any
) -> tuple[dict[str, Tensor], FederatedTrainer]:
    """How each client has changed its weights in one round, [D]."""
    sent, module = Sent(), fed_avg(folder)
    start = module.initial_broadcast().tensors
    one = trainer(root, privacy, callbacks=[sent], **settings)
    one.fit(module, data)
    flat = {
        client: torch.cat([(u.payload.tensors[n] - start[n]).flatten() for n in sorted(start)])
        for client, u in sent.updates.items()
    }
    return flat, one


def drawn(seed: int, rows: int, rate: float, steps: int) -> list[list[int]]:
    """Poisson sampling as it is documented, of the seed of (run, round 0, client 0, stage 0)."""
    place = np.random.SeedSequence(entropy=seed, spawn_key=(0, 0, 0, 0, 0, 1)).generate_state(1)[0]
    generator = torch.Generator().manual_seed(int(place))
    return [
        [i for i, u in enumerate(torch.rand(rows, generator=generator)) if u < rate]
        for _ in range(steps)
    ]


@pytest.mark.parametrize("bound", [0.3, 3.0])
def test_a_round_is_that_of_a_plain_loop_over_single_rows(
    bound: float, sober: Path, tmp_path: Path
) -> None:
    """With next to no noise: rows drawn on their own, each gradient bounded, the sum over the expected number."""
    rows, size = toy_rows(30, 5), 6
    data = toy_data(train=rows, num_clients=1, batch_size=size, partitioner=IIDPartitioner())
    found, _ = changes(sober, tmp_path, DPSGD(bound, noise_multiplier=1e-7), data)

    module, plain = (
        fed_avg(sober),
        toy_data(train=rows, num_clients=1, partitioner=IIDPartitioner()),
    )
    plain.setup()
    own = plain.clients[0].rows
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    begin = {n: p.detach().clone() for n, p in trained.items()}
    every = [next(iter(plain.dataloader(own.select([i]), module.tokenizer))) for i in range(30)]
    cut = taken = 0
    for positions in drawn(0, 30, size / 30, steps=5):
        total = {n: torch.zeros_like(p) for n, p in trained.items()}
        for i in positions:
            batch = every[i]
            logits = module.backbone.model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
            loss = torch.nn.functional.cross_entropy(logits, batch["labels"])
            gradient = torch.autograd.grad(loss, list(trained.values()))
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradient))
            cut, taken = cut + (norm > bound), taken + 1
            for name, g in zip(trained, gradient, strict=True):
                total[name] += g * min(1.0, bound / norm)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter -= 0.5 * total[name] / size
    names = sorted(module.initial_broadcast().tensors)
    weights = {n: p for n, p in module.named_parameters() if p.requires_grad}
    moved = {n: (weights[n].detach() - begin[n]).flatten() for n in weights}
    expected = torch.cat([moved[next(w for w in weights if _same(w, n))] for n in names])
    assert (cut == taken) == (bound == 0.3)
    assert float(expected.norm()) > 0.05
    torch.testing.assert_close(found["client-0"], expected, rtol=0, atol=2e-5)


def _same(parameter: str, sent: str) -> bool:
    """Whether a parameter is what is sent under a name, which leaves peft's own words out."""
    return parameter.replace(".default", "").replace(".modules_to_save", "").endswith(sent)


def test_noise_is_in_each_step_with_its_deviation_and_another_of_each_client(
    sober: Path, tmp_path: Path
) -> None:
    """Of tiny gradients the change is noise: lr · σ · C / (q n) · √steps."""
    data = toy_data(
        train=toy_rows(32, 5), num_clients=2, batch_size=4, partitioner=IIDPartitioner()
    )
    privacy = DPSGD(1e-4, noise_multiplier=50.0)
    found, _ = changes(sober, tmp_path / "a", privacy, data, local_steps=9)
    expected = 0.5 * 50 * 1e-4 / 4 * 3
    for change in found.values():
        assert float(change.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * len(change)))
    one, other = found.values()
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 4 / math.sqrt(len(one))
    again, _ = changes(sober, tmp_path / "b", privacy, data, local_steps=9)
    assert all(torch.equal(again[client], found[client]) for client in found)
    secure = DPSGD(1e-4, noise_multiplier=50.0, secure_mode=True)
    third, _ = changes(sober, tmp_path / "c", secure, data, local_steps=9)
    for client, change in third.items():
        assert not torch.equal(change, found[client])
        assert float(change.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * len(change)))


def test_loras_b_moves_in_one_step_as_without_privacy(sober: Path, tmp_path: Path) -> None:
    """As it did not, unnoticed, in https://github.com/meta-pytorch/opacus/issues/820.

    By SGD: an optimizer that scales its steps, such as Adam, moves B by next to no noise alone.
    """
    data = toy_data(
        train=toy_rows(32, 5), num_clients=1, batch_size=32, partitioner=IIDPartitioner()
    )
    start = fed_avg(sober).initial_broadcast().tensors
    # all rows are drawn, and no gradient is as large as the bound
    silent = DPSGD(max_grad_norm=100.0, noise_multiplier=1e-9)
    private, plain = (
        step(sober, tmp_path / name, privacy, data)
        for name, privacy in {"private": silent, "plain": None}.items()
    )
    ups = [name for name in start if "lora_B" in name]
    assert len(ups) == 4
    for name in ups:
        assert not start[name].any()
        assert float(plain[name].norm()) > 1e-3
        torch.testing.assert_close(private[name], plain[name], rtol=1e-4, atol=1e-6, msg=name)


def step(
    folder: Path, root: Path, privacy: DPSGD | None, data: FederatedDataModule
) -> Mapping[str, Tensor]:
    """What the only client sends after one step."""
    sent = Sent()
    trainer(root, privacy, callbacks=[sent], local_steps=1).fit(fed_avg(folder), data)
    return sent.updates["client-0"].payload.tensors


def test_a_step_that_draws_no_row_is_a_step_of_noise(sober: Path, tmp_path: Path) -> None:
    data = toy_data(
        train=toy_rows(40, 5), num_clients=1, batch_size=1, partitioner=IIDPartitioner()
    )
    expected = [bool(one) for one in drawn(0, 40, 1 / 40, steps=12)]
    assert len(set(expected)) == 2
    norms: list[float] = []

    class Norms(FederatedCallback):
        def on_after_backward(self, trainer: Any, module: Any) -> None:
            grads = [p.grad for p in module.parameters() if p.requires_grad]
            norms.append(float(torch.cat([g.flatten() for g in grads]).norm()))

    silent = DPSGD(noise_multiplier=1e-9)
    trainer(tmp_path / "a", silent, callbacks=[Norms()], local_steps=12).fit(fed_avg(sober), data)
    assert [norm > 0.01 for norm in norms] == expected
    privacy = DPSGD(noise_multiplier=1.0)
    one = trainer(tmp_path / "b", privacy, local_steps=30)
    one.fit(fed_avg(sober), data)
    assert one.federation.clients["client-0"].steps == 30
    accountant = RDPAccountant()
    accountant.history = [(1.0, 1 / 40, 30)]
    spent = epsilon_of(one.federation.clients["client-0"].privacy)
    assert spent == pytest.approx(accountant.get_epsilon(delta=1e-5), rel=1e-12)


class WithPublic(FedAvg):
    """A term of public rows beside the task's."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        own = self.task_loss(self(batch), batch)
        with over_public_rows():
            public = next(self.batches(self.data.public, batch_size=5))
            said = self(public)
            term = cross_entropy(said.logits, said.targets, said.mask)
        return self.total_loss(own, public=0.3 * term)


def test_terms_of_public_rows_are_neither_bounded_nor_noisy(sober: Path, tmp_path: Path) -> None:
    """Beside a run without them from the same start: what differs after a step is their plain gradient."""
    data = toy_data(
        train=toy_rows(24, 5), num_clients=1, batch_size=2, partitioner=IIDPartitioner()
    )

    def moved(name: str, method: type[FedAvg], seed: int) -> dict[str, Tensor]:
        sent, module = Sent(), method(toy_backbone(sober), optimizer=sgd)
        privacy = DPSGD(0.01, noise_multiplier=3.0)
        one = trainer(
            tmp_path / name, privacy, callbacks=[sent], local_steps=1, max_rounds=1, seed=seed
        )
        one.fit(module, data)
        return dict(sent.updates["client-0"].payload.tensors)

    module = WithPublic(toy_backbone(sober), optimizer=sgd)
    module.datamodule = data
    data.setup()
    public = next(module.batches(data.public, batch_size=5))
    said = module(public)
    loss = 0.3 * torch.nn.functional.cross_entropy(said.logits, said.targets)
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    plain = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
    some, none = (
        [s for s in range(60) if bool(drawn(s, 24, 2 / 24, 1)[0]) is a] for a in (True, False)
    )
    for seed in (some[0], none[0]):  # without any row that is drawn, and with some
        with_them = moved(f"with {seed}", WithPublic, seed)
        without = moved(f"without {seed}", FedAvg, seed)
        for name, gradient in plain.items():
            sent = next(n for n in without if _same(name, n))
            found = (without[sent] - with_them[sent]) / 0.5
            torch.testing.assert_close(found, gradient, rtol=0, atol=1e-5, msg=name)


def test_epsilon_is_each_clients_own_and_the_most_is_of_all_so_far(
    sober: Path, tmp_path: Path
) -> None:
    data = toy_data(batch_size=8)
    one = trainer(
        tmp_path, DPSGD(noise_multiplier=1.5), max_rounds=4, clients_per_round=2, local_steps=3
    )
    one.fit(fed_avg(sober), data)
    state = one.federation
    held = {client.id: len(client.rows) for client in data.clients}
    for name, client in state.clients.items():
        accountant = RDPAccountant()
        accountant.history = [(1.5, min(1.0, 8 / held[name]), client.steps)]
        expected = accountant.get_epsilon(delta=1e-5)
        assert client.steps == 3 * client.rounds
        assert epsilon_of(client.privacy) == pytest.approx(expected, rel=1e-9)
    most = [row["privacy/epsilon/max"] for row in state.history]
    assert most == sorted(most)
    assert most[-1] == max(epsilon_of(client.privacy) for client in state.clients.values())
    last = state.history[-1]
    assert last["clients/privacy/epsilon/max"] <= most[-1]
    summary = json.loads((tmp_path / "summary.json").read_text())["privacy"]
    assert summary["epsilon"] == {n: epsilon_of(c.privacy) for n, c in state.clients.items()}
    assert (summary["most"], summary["noise_multiplier"], summary["delta"]) == (most[-1], 1.5, 1e-5)
    assert len({client.rounds for client in state.clients.values()}) > 1


def test_a_target_is_reached_at_the_end_and_no_client_goes_beyond(
    sober: Path, tmp_path: Path
) -> None:
    data = toy_data()
    settings: dict[str, Any] = {"local_steps": 2, "enable_checkpointing": True}
    privacy = DPSGD(target_epsilon=4.0)
    one = trainer(tmp_path, privacy, max_rounds=3, **settings)
    one.fit(fed_avg(sober), data)
    spent = {n: epsilon_of(c.privacy) for n, c in one.federation.clients.items()}
    assert all(3.9 < epsilon <= 4.0 for epsilon in spent.values()), spent
    noise = {n: c.privacy.tensors["noise_multiplier"] for n, c in one.federation.clients.items()}
    assert len(set(map(float, noise.values()))) == len(noise)
    # more rounds than the noise was computed for
    more = trainer(tmp_path, privacy, max_rounds=4, min_clients=0, **settings)
    with pytest.warns(UserWarning, match=r"is expected to spend ε 4 at most .* after 2 more steps"):
        more.fit(fed_avg(sober), toy_data(), ckpt_path="last")
    assert more.federation.history[-1]["clients/failed"] == len(spent)
    assert {n: epsilon_of(c.privacy) for n, c in more.federation.clients.items()} == spent


def test_a_client_that_is_left_out_as_implausible_has_spent_all_the_same(
    sober: Path, tmp_path: Path
) -> None:
    class Huge(FedAvg):
        def upload(self) -> Any:
            sent = super().upload()
            if self.client and self.client.id == "client-1" and self.client.round == 1:
                return type(sent)({name: 1e6 + tensor for name, tensor in sent.tensors.items()})
            return sent

    one = trainer(tmp_path, DPSGD(noise_multiplier=1.0), max_rounds=3, local_steps=2)
    with pytest.warns(UserWarning, match="'client-1' is left out"):
        one.fit(Huge(toy_backbone(sober), optimizer=sgd), toy_data())
    state = one.federation.clients
    steps = {n: int(c.privacy.tensors["history"][0, 2]) for n, c in state.items()}
    assert set(steps.values()) == {6}
    assert state["client-1"].rounds == 2
    assert state["client-0"].rounds == 3


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_bit_for_bit_and_goes_on_counting(
    toy_model: Path, tmp_path: Path
) -> None:
    privacy = DPSGD(noise_multiplier=1.0)
    whole = toy_trainer(tmp_path / "whole", privacy=privacy)
    whole.fit(toy_module(toy_model), toy_data())
    command = [sys.executable, "-m", "tests.federation.killed_run", "client"]
    command += [str(toy_model), str(tmp_path / "run"), "1.0"]
    child = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr

    again = toy_trainer(tmp_path / "run", privacy=privacy)
    again.fit(toy_module(toy_model), toy_data(), ckpt_path="last")
    assert without_times(again.federation.history) == without_times(whole.federation.history)
    assert again.federation.broadcast == whole.federation.broadcast
    assert again.federation.clients == whole.federation.clients
    assert all(epsilon_of(c.privacy) > 0 for c in again.federation.clients.values())
    # neither without noise nor with another one
    for other in (None, DPSGD(noise_multiplier=2.0)):
        with pytest.raises(ValueError, match=r"`trainer\.privacy"):
            toy_trainer(tmp_path / "run", privacy=other, max_rounds=4).fit(
                toy_module(toy_model), toy_data(), ckpt_path="last"
            )


def test_processes_that_take_different_clients_and_methods_with_a_teacher_are_fine(
    sober: Path, tmp_path: Path
) -> None:
    def ran(name: str, method: FederatedModule, **settings: Any) -> Any:
        one = trainer(tmp_path / name, DPSGD(noise_multiplier=0.5), local_steps=2, **settings)
        one.fit(method, toy_data())
        return one.federation

    alone = ran("alone", fed_avg(sober))
    apart = ran("apart", fed_avg(sober), execution=DistributedClients())
    assert apart.broadcast == alone.broadcast
    ddg = DDG(
        toy_backbone(sober),
        optimizer=sgd,
        teacher=AdapterTeacher(cache_mb=0),
        consensus=NoConsensus(),
        lambda_align=0.0,
        lambda_aggregate=0.0,
    )
    assert ran("ddg", ddg).history[-1]["privacy/epsilon/max"] > 0


class Penalised(FedAvg):
    """A term of weights beside the task's."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        penalty = sum(p.square().sum() for p in self.parameters() if p.requires_grad)
        return self.total_loss(self.task_loss(self(batch), batch), penalty=0.1 * penalty)


class Greedy(FedAvg):
    """Asks for the gradient of a single term."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.task_loss(self(batch), batch)
        self.loss_gradients(loss)
        return self.total_loss(loss)


class Twice(torch.optim.SGD):
    """Computes the loss of a step twice."""

    def step(self, closure: Any = None) -> Any:
        return super().step()


class TwiceAsked(FedAvg):
    """Lets the optimizer compute the loss of a step twice."""

    def optimizer_step(self, *args: Any) -> None:
        args[-1]()
        args[-2].step(args[-1])


def refused(sober: Path, root: Path, method: Any = None, data: Any = None, **settings: Any) -> None:
    module = fed_avg(sober) if method is None else method(toy_backbone(sober), optimizer=sgd)
    one = trainer(root, DPSGD(noise_multiplier=1.0), **settings)
    one.fit(module, toy_data() if data is None else data)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"execution": VectorizedClients(2)}, r"`trainer.execution` .* but got VectorizedClients"),
        ({"execution": ShardedClients()}, r"`trainer.execution` .* but got ShardedClients"),
        ({"execution": DistributedClients(VectorizedClients(2))}, r"but got DistributedClients"),
        ({"attachments": [CUBE()]}, r"`trainer.attachments` .* each row by itself .* but got CUBE"),
        ({"attachments": [ActivationClustering()]}, r"but got ActivationClustering, which chooses"),
        ({"compile": True}, r"`trainer.compile` is expected to be false with `trainer.privacy`"),
        ({"accumulate_grad_batches": 2}, r"`trainer.accumulate_grad_batches` .* but got 2"),
        ({"method": Penalised}, r"in that of Penalised there is PowBackward0"),
        ({"method": Greedy}, r"no gradients of single terms of a loss"),
        ({"method": TwiceAsked}, r"compute the loss of a step once with `trainer.privacy`"),
        ({"method": FedProx}, r"a sum over the rows of a batch, .* of FedProx `model.mu`"),
        (
            {"method": partial(DDG, teacher=AdapterTeacher(cache_mb=0))},
            r"a sum over the rows of a batch, .* of DDG .*PublicConsensus",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_private_is_refused_by_name(
    what: dict[str, Any], message: str, sober: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        refused(sober, tmp_path, **what)


def test_packed_rows_and_a_large_delta_are_refused(sober: Path, tmp_path: Path) -> None:
    packing = InstructionEncoding(InstructionRecords(context=None), packing=True)
    with pytest.raises(ValueError, match=r"`data\.encoding\.packing` is expected to be false"):
        check_private_rows(DPSGD(noise_multiplier=1.0), toy_data(encoding=packing))
    with pytest.raises(ValueError, match=r"`trainer\.privacy\.delta` is expected to be below one"):
        trainer(tmp_path, DPSGD(noise_multiplier=1.0, delta=0.1)).fit(fed_avg(sober), toy_data())
    with pytest.raises(TypeError, match=r"`trainer\.privacy` is expected to be an instance"):
        trainer(tmp_path, DPSGD)  # type: ignore[arg-type]
