"""Two rounds of each method beside a plain loop over deep copies, which uses no code of the library.

The loop is given what chance decides, as the run has recorded it: a client's batches, its public batches and the
noise in its modules. That these differ where they have to is asserted as well.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from peft import LoraConfig
from torch import Tensor, nn

from lit_fed import DDG, DDGMSI, MSI, FedAvg, FederatedModule
from lit_fed.backbones import CausalLM
from lit_fed.methods.ddg import PublicConsensus
from lit_fed.perturbations import GaussianNoise
from tests.federation.toy import toy_backbone, toy_data, toy_rows, toy_trainer
from tests.methods.toy_methods import lm_data, lm_rows, save_sober_model, save_toy_lm
from tests.slow import slow_but

ROUNDS, STEPS, EVERY, RATE, TOP_K = 2, 3, 2, 0.3, 4
T, GAMMA, RHO = 2.7, 4.0, 0.4
DISTILL, ALIGN, AGGREGATE, MU, BETA = 0.7, 0.02, 0.6, 0.9, 0.5
SITES = ("attention", "feed_forward")

Place = tuple[int, str]
"""A round, from 0, and a client."""


@dataclass
class Record:
    """What chance has decided, in the order in which it was needed."""

    initial: Any = None
    sizes: dict[str, int] = field(default_factory=dict)
    batches: dict[Place, list[dict[str, Tensor]]] = field(default_factory=lambda: defaultdict(list))
    public: dict[Place, list[dict[str, Tensor]]] = field(default_factory=lambda: defaultdict(list))
    whole_public: list[dict[str, Tensor]] = field(default_factory=list)
    noise: dict[Place, list[tuple[int, str, Tensor]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    losses: dict[Place, list[float]] = field(default_factory=lambda: defaultdict(list))


class Witness(Callback):
    """Records batches and losses."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        client = module.client
        self.record.batches[client.round, client.id].append(
            {k: v.clone() for k, v in batch.items()}
        )
        self.record.sizes[client.id] = client.num_samples

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, i: int
    ) -> None:
        client = module.client
        self.record.losses[client.round, client.id].append(float(outputs["loss"]))


def recording(method: type[FederatedModule], record: Record) -> type[FederatedModule]:
    """The method, with its public batches recorded as they are taken."""

    class Recording(method):  # type: ignore[misc, valid-type]
        def batches(self, rows: Any, seed: int | None = None, batch_size: int | None = None) -> Any:
            for batch in super().batches(rows, seed, batch_size):
                if seed is not None:
                    record.public[self.client.round, self.client.id].append(batch)
                elif self.client.round == 0 and len(record.whole_public) * 32 < len(rows):
                    record.whole_public.append(batch)
                yield batch

    return Recording


class RecordedNoise(GaussianNoise):
    """Gaussian noise that says which module got which, before it is made as large as the output."""

    def __init__(self, record: Record) -> None:
        super().__init__(scale=RHO)
        self.record = [record]  # a list, as modules copy what they have
        self.module: Any = None

    def delta(self, module: Any, output: Tensor, mask: Tensor, generator: Any) -> Tensor:
        noise = super().delta(module, output, mask, generator)
        size = output[mask].square().mean().sqrt()
        names = {id(m): n for n, m in self.module().backbone.model.named_modules()}
        client = self.module().client
        noted = (client.steps, names[id(module)], (noise / size).detach())
        self.record[0].noise[client.round, client.id].append(noted)
        return noise


# ---------------------------------------------------------------- the plain loop


class Plain:
    """The equations of Zou (2024), §3, over deep copies.

    Args:
        record: What chance has decided.
        distils: Whether L_DDG is part of the loss.
        injects: Whether L_MSI is.
        language_model: Whether it is about tokens.
    """

    def __init__(self, record: Record, distils: bool, injects: bool, language_model: bool) -> None:
        self.record = record
        self.distils, self.injects, self.lm = distils, injects, language_model
        self.model = copy.deepcopy(record.initial)
        self.aggregate: dict[Any, dict[int, float]] = {}
        self.steps: dict[str, int] = defaultdict(int)
        self.losses: dict[Place, list[float]] = defaultdict(list)

    def run(self) -> None:
        clients = list(self.record.sizes)
        total = sum(self.record.sizes.values())
        weights = {client: self.record.sizes[client] / total for client in clients}
        for number in range(ROUNDS):
            teacher, models = self.model, {c: copy.deepcopy(self.model) for c in clients}
            sent = {}
            for client, model in models.items():
                self.train(model, teacher, (number, client))
                sent[client] = self.predictions(model) if self.distils else {}
            self.model = copy.deepcopy(teacher)
            for name, parameter in self.trained(self.model).items():
                own = [weights[c] * self.trained(models[c])[name].detach() for c in clients]
                parameter.data = sum(own[1:], own[0])
            if self.distils:
                self.aggregate = self.mixture(sent, weights)

    @staticmethod
    def trained(model: nn.Module) -> dict[str, nn.Parameter]:
        return {n: p for n, p in model.named_parameters() if p.requires_grad}

    def train(self, model: nn.Module, teacher: nn.Module, place: Place) -> None:
        public = iter(self.record.public.get(place, ()))
        for batch in self.record.batches[place]:
            loss = self.loss(model, teacher, batch, public, place)
            self.losses[place].append(float(loss))
            parameters = list(self.trained(model).values())
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.data -= RATE * gradient
            self.steps[place[1]] += 1

    def loss(self, model: Any, teacher: Any, batch: Any, public: Any, place: Place) -> Tensor:
        z, h = self.states(model, batch)
        where, targets = self.places(batch)
        loss = F.cross_entropy(z[where], targets[where])
        if self.distils:
            with torch.no_grad():
                z_t, h_t = self.states(teacher, batch)
            kd = self.kl(z_t[where], z[where])
            align = (h - h_t).square().sum(-1).mean()
            loss = loss + DISTILL * kd.mean() + ALIGN * align
            if self.aggregate:
                loss = loss + AGGREGATE * self.guided(model, teacher, next(public))
        if self.injects and self.steps[place[1]] % EVERY == 0:
            noisy, size = self.noisy(model, batch, place)
            stability = (z.softmax(-1) - noisy.softmax(-1)).square().sum(-1)[where].mean()
            loss = loss + MU * (stability + BETA * size)
        return loss

    @staticmethod
    def states(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits, and the mean of the last hidden states over what is no padding."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        out = model(**inputs, output_hidden_states=True)
        mask = batch["attention_mask"].unsqueeze(-1)
        return out.logits, (out.hidden_states[-1] * mask).sum(1) / mask.sum(1)

    def places(self, batch: Any) -> tuple[Any, Tensor]:
        """Where there is a loss, as an index of logits, and the targets."""
        labels = batch["labels"]
        if not self.lm:
            return slice(None), labels
        # the last place predicts nothing
        shifted = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], 1)
        return shifted != -100, shifted

    @staticmethod
    def kl(z_t: Tensor, z_s: Tensor) -> Tensor:
        p, q = (z_t / T).softmax(-1), (z_s / T).softmax(-1)
        return T**2 * (p * (p.log() - q.log())).sum(-1)

    def guided(self, model: Any, teacher: Any, batch: Any) -> Tensor:
        """α · KD(P̄ → p_k) on a public batch."""
        z, _ = self.states(model, batch)
        with torch.no_grad():
            z_t, _ = self.states(teacher, batch)
            delta = (z.softmax(-1) - z_t.softmax(-1)).square().sum(-1).sqrt()
            alpha = torch.sigmoid(GAMMA * delta)
        where, _ = self.places(batch)
        keys = self.keys(batch)
        terms = []
        for logits, strength, key in zip(z[where], alpha[where], keys, strict=True):
            listed = self.aggregate[key]
            p, q = self.compared(logits, listed)
            terms.append(strength * T**2 * (p * (p.log() - q.log())).sum())
        return torch.stack(terms).mean()

    def compared(self, logits: Tensor, listed: dict[int, float]) -> tuple[Tensor, Tensor]:
        """P̄ and p_k of one row or place, with all tokens that are not listed as one."""
        p = torch.tensor(list(listed.values()), dtype=torch.float64)
        chosen = logits[list(listed)]
        if len(listed) < len(logits):
            p = torch.cat([p, 1 - p.sum().reshape(1)])
            others = [i for i in range(len(logits)) if i not in listed]
            chosen = torch.cat([chosen, logits[others].exp().sum().log().reshape(1)])
        return p / p.sum(), (chosen / T).softmax(-1)

    def keys(self, batch: Any) -> list[Any]:
        """A name for each row, or for each place with a loss."""
        where, _ = self.places(batch)
        if not self.lm:
            return list(batch["index"].tolist())
        rows = batch["index"].tolist()
        return [(r, n) for r, row in zip(rows, where, strict=True) for n in range(int(row.sum()))]

    @torch.no_grad()
    def predictions(self, model: Any) -> dict[Any, dict[int, float]]:
        """q_k in half precision: of each key the probabilities of what is listed."""
        found: dict[Any, dict[int, float]] = {}
        for batch in self.record.whole_public:
            z, _ = self.states(model, batch)
            where, _ = self.places(batch)
            for key, logits in zip(self.keys(batch), z[where], strict=True):
                listed = logits.topk(TOP_K).indices.tolist() if self.lm else range(len(logits))
                others = [i for i in range(len(logits)) if i not in listed]
                values = [logits[i] for i in listed]
                if others:
                    values.append(logits[others].exp().sum().log())
                q = (torch.stack(values) / T).softmax(-1).half()
                found[key] = {i: float(v) for i, v in zip(listed, q, strict=False)}
        return found

    def mixture(self, sent: dict[str, Any], weights: dict[str, float]) -> dict[Any, Any]:
        """P̄ in half precision; of a language model the most probable of what is listed."""
        mixed: dict[Any, dict[int, float]] = {}
        for key in next(iter(sent.values())):
            sums: dict[int, float] = defaultdict(float)
            for client, q in sent.items():
                for token, probability in q[key].items():
                    sums[token] += weights[client] * probability
            kept = sorted(sums, key=lambda token: -sums[token])
            if self.lm and len(kept) > TOP_K:
                margin = sums[kept[TOP_K - 1]] - sums[kept[TOP_K]]
                assert margin > 1e-6, "of two equal ones either may be kept: take another seed"
            kept = kept[:TOP_K] if self.lm else sorted(kept)
            mixed[key] = {t: float(torch.tensor(sums[t]).half()) for t in kept}
        return mixed

    def noisy(self, model: nn.Module, batch: Any, place: Place) -> tuple[Tensor, Tensor]:
        """The logits of the pass with the recorded noise, and Σ mean(Δ²)/RMS(M)² over the sites."""
        step, mask = self.steps[place[1]], batch["attention_mask"].bool()
        noise = {n: unit for at, n, unit in self.record.noise[place] if at == step}
        assert len(noise) == sum(at == step for at, _, _ in self.record.noise[place])
        ratios: list[Tensor] = []

        def perturb(unit: Tensor) -> Any:
            def hook(module: Any, args: Any, output: Any) -> Any:
                out = output[0] if isinstance(output, tuple) else output
                size = out[mask].square().mean().sqrt().detach()
                added = RHO * size * unit * mask.unsqueeze(-1)
                ratios.append(added[mask].square().mean() / size**2)
                return (out + added, *output[1:]) if isinstance(output, tuple) else out + added

            return hook

        modules = dict(model.named_modules())
        hooks = [modules[n].register_forward_hook(perturb(unit)) for n, unit in noise.items()]
        z, _ = self.states(model, batch)
        for hook in hooks:
            hook.remove()
        # as many modules of the one site as of the other
        return z, torch.stack(ratios).mean() * len(SITES)


# ---------------------------------------------------------------- both

METHODS: dict[str, tuple[type[FederatedModule], bool, bool]] = {
    "fedavg": (FedAvg, False, False),
    "ddg": (DDG, True, False),
    "msi": (MSI, False, True),
    "ddg_msi": (DDGMSI, True, True),
}
CASES = [(name, lm) for name in METHODS for lm in (False, True)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    root = tmp_path_factory.mktemp("models")
    return {False: save_sober_model(root / "classifier"), True: save_toy_lm(root / "lm")}


def federation(
    name: str, language_model: bool, folder: Path, root: Path, settings: dict[str, Any]
) -> tuple[Record, Any, Any]:
    """A run of two rounds in float64 of three unequal clients, what was decided in it, and its module."""
    method, distils, injects = METHODS[name]
    record, given = Record(), dict[str, Any]()
    if distils:
        given |= {"lambda_distill": DISTILL, "lambda_align": ALIGN, "gamma": GAMMA}
        given |= {"lambda_aggregate": AGGREGATE, "temperature": T}
        given["consensus"] = PublicConsensus(top_k=TOP_K, batch_size=5)
    if injects:
        given |= {"mu": MU, "beta": BETA, "inject_every": EVERY, "sites": SITES}
        given["perturbation"] = RecordedNoise(record)
    if language_model:
        torch.manual_seed(0)
        backbone: Any = CausalLM(str(folder), peft=LoraConfig(r=4, lora_alpha=8))
        # of several lengths, and clients of several sizes
        data = lm_data(train=lm_rows(31, 0), num_clients=3, batch_size=4)
    else:
        backbone = toy_backbone(folder)
        data = toy_data(train=toy_rows(70, 0), public=toy_rows(11, 3), num_clients=3)
    module = recording(method, record)(
        backbone, optimizer=lambda params: torch.optim.SGD(params, lr=RATE), **given
    )
    if injects:
        module.perturbation.module = lambda: module
    with torch.no_grad():  # LoRA's B is 0 at first, and then A has no gradient
        for parameter in module.backbone.trainable().values():
            parameter += 0.1 * torch.randn(parameter.shape)
    record.initial = copy.deepcopy(module.backbone.model).double().eval()
    trainer = toy_trainer(
        root,
        max_rounds=ROUNDS,
        clients_per_round=3,
        local_steps=STEPS,
        precision="64-true",
        gradient_clip_val=None,
        callbacks=[Witness(record)],
        test_at_end=False,
        **settings,
    )
    trainer.fit(module, data)
    return record, trainer, module


@pytest.mark.parametrize(
    ("name", "language_model"),
    slow_but(("ddg_msi", False), ("ddg_msi", True), ("ddg", True), ("msi", False), of=CASES),
)
def test_two_rounds_are_those_of_a_plain_loop(
    name: str, language_model: bool, folders: dict[bool, Path], tmp_path: Path
) -> None:
    record, trainer, _ = federation(name, language_model, folders[language_model], tmp_path, {})
    _, distils, injects = METHODS[name]
    assert len(set(record.sizes.values())) > 1
    plain = Plain(record, distils, injects, language_model)
    plain.run()

    assert plain.losses.keys() == record.losses.keys()
    for place, losses in record.losses.items():
        assert len(losses) == STEPS
        assert losses == pytest.approx(plain.losses[place], rel=1e-6), place
    found = trainer.federation.broadcast.tensors
    expected = {
        name.replace(".modules_to_save", "").replace(".default", ""): parameter
        for name, parameter in plain.trained(plain.model).items()
    }
    assert expected.keys() == found.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key].detach(), rtol=1e-5, atol=1e-7)
    if distils:
        require_public_orders(record)
        consensus = trainer.federation.broadcast.parts["consensus"].tensors
        probs = consensus["probs"].flatten().tolist()
        assert probs == pytest.approx(
            [v for key in sorted(plain.aggregate) for v in plain.aggregate[key].values()], abs=2e-3
        )
    if injects:
        require_noises(record)


def require_public_orders(record: Record) -> None:
    """Each client meets the public rows in each round in an order of its own, and all rows in an epoch."""
    assert {number for number, _ in record.public} == {1}, "there is no consensus in round 0"
    orders = []
    for batches in record.public.values():
        assert len(batches) == STEPS
        rows = [index for batch in batches for index in batch["index"].tolist()]
        assert len(set(rows)) == len(rows) > 2 * 5, "an epoch has every row once"
        orders.append(rows)
    assert all(a != b for a, b in combinations(orders, 2))


def require_noises(record: Record) -> None:
    """Each step and client has noise of its own, standard normal before it is scaled."""
    drawn = [one for noises in record.noise.values() for one in noises]
    assert {step for step, _, _ in drawn} == {0, 2, 4}
    for (_, _, a), (_, _, b) in combinations(drawn, 2):
        size = min(a[0, 0].numel(), b[0, 0].numel())
        # but for the rounding of the output's size, by which they were divided
        assert not torch.allclose(a[0, 0, :size], b[0, 0, :size], atol=1e-6)
    every = torch.cat([unit[unit != 0] for _, _, unit in drawn])
    assert float(every.mean()) == pytest.approx(0, abs=0.02)
    assert float(every.std()) == pytest.approx(1, abs=0.02)
