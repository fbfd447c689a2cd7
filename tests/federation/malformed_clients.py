"""Methods of which the second client gives what no server can use, in another way in every round."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_fed import FedAvg, FederatedTrainer, Payload
from lit_fed.data import IIDPartitioner
from lit_fed.federation import FixedOrderSampler
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_rows, toy_trainer


class MuteError(Exception):
    """Has no words of its own."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def changed(change: Callable[[dict[str, Tensor]], Mapping[Any, Any]]) -> Callable[[Payload], Any]:
    """An upload with other tensors."""
    return lambda upload: Payload(change(dict(upload.tensors)))


def first(change: Callable[[Tensor], Tensor]) -> Callable[[Payload], Any]:
    """An upload of which the first tensor is another."""

    def apply(upload: Payload) -> Payload:
        name = next(iter(upload.tensors))
        return Payload({**upload.tensors, name: change(upload.tensors[name])})

    return apply


UPLOADS: dict[str, tuple[Callable[[Payload], Any], str]] = {
    "too many": (
        changed(lambda t: {**t, "x": torch.ones(1)}),
        "10 tensors, but holds 11: 'x' too many",
    ),
    "too few": (
        changed(lambda t: dict(list(t.items())[1:])),
        "10 tensors, but holds 9: .* missing",
    ),
    "nothing": (lambda upload: Payload(), "expected to hold 10 tensors, but holds 0"),
    "shape": (first(lambda t: t[..., :1]), "of shape .*, but holds"),
    "scalar": (first(lambda t: t.sum()), r"of shape .*, but holds \[\]"),
    "half": (first(lambda t: t.half()), "in float32, but holds float16"),
    "double": (first(lambda t: t.double()), "in float32, but holds float64"),
    "integers": (first(lambda t: t.long()), "in float32, but holds int64"),
    "texts": (lambda u: Payload(u.tensors, {"said": ["a"]}), "0 lists of texts, but holds 1"),
    "a part": (
        lambda u: u.with_parts({"p": Payload({"x": torch.ones(1)})}),
        "0 parts, but holds 1",
    ),
    "none": (lambda upload: None, "expected to return a Payload, but returned NoneType"),
    "a dict": (lambda upload: dict(upload.tensors), "a Payload, but returned dict"),
    "infinite": (first(lambda t: t / 0), "to be finite"),
}
OTHERS: dict[str, str] = {
    "no private state": "private_state.. of Malformed is expected to return a Payload",
    "useless private state": "`state` is expected to have",
    "surrogate metric": "name is expected to be printable text",
    "nameless metric": "a metric's name is expected to be a text, but got 3",
    "mute error": "a MuteError, whose words cannot be read",
    "no count": "are expected to be counts",
    "shared weights": "optimizer is expected to move what Malformed was built to train",
    "no optimizer": "",
}
WAYS = [*UPLOADS, *OTHERS]
SAID = {**{way: said for way, (_, said) in UPLOADS.items()}, **OTHERS}


class Malformed(FedAvg):
    """The second client gives in round n what the n-th way is."""

    @property
    def way(self) -> str:
        if self.client is None or self.client.index != 1:
            return ""
        return WAYS[self.client.round]

    def configure_optimizers(self) -> Any:
        if self.way == "shared weights":
            for parameter in self.parameters():
                parameter.requires_grad_(True)
        return 3 if self.way == "no optimizer" else super().configure_optimizers()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        name: Any = {"surrogate metric": "train/\ud800", "nameless metric": 3}.get(self.way)
        if name is not None:
            self.log(name, loss)
        if self.way == "mute error":
            raise MuteError
        return loss

    def upload(self) -> Payload:
        upload = super().upload()
        if self.way == "no count":
            self.client.steps = "many"
        # of no effect: the server knows better
        self.client.num_samples = 10**9
        self.client.id = "someone else"
        return UPLOADS[self.way][0](upload) if self.way in UPLOADS else upload

    def private_state(self) -> Payload:
        if self.way == "useless private state":
            return Payload(parts={"kept": Payload({"nobody's": torch.ones(1)})})
        return None if self.way == "no private state" else super().private_state()


class Careless(FedAvg):
    """The second client leaves the process as nobody else would want to have it, and then fails."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.client is not None and self.client.index == 1:
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float16)
            torch.set_default_device("meta")
            torch.set_num_threads(3)
            torch.use_deterministic_algorithms(True)
            torch.set_float32_matmul_precision("medium")
            torch.set_autocast_enabled("cpu", True)
            warnings.simplefilter("error")
            os.environ["CARELESS"] = "1"
            os.chdir("/")
            for parameter in self.parameters():
                parameter.requires_grad_(False)
            self.backbone.requires_grad_(True)
            self.eval()
            raise ValueError("careless")
        return loss


def fit(
    kind: type[FedAvg],
    model: Path,
    root: Path,
    order: list[int],
    ckpt: str | None = None,
    **given: Any,
) -> FederatedTrainer:
    """A federation of one batch a round for each of the clients."""
    settings = {
        "clients_per_round": len(order),
        "sampler": FixedOrderSampler(order),
        "limit_train_batches": 1,
        "test_at_end": False,
        "check_val_every_n_rounds": 100,
        "keep_optimizer_state": True,
    }
    trainer = toy_trainer(root, **settings | given)
    module = kind(toy_backbone(model), optimizer=fast_adamw, warmup_steps=0)
    rows = toy_rows(160, 0)
    trainer.fit(module, toy_data(train=rows, partitioner=IIDPartitioner()), ckpt)
    return trainer
