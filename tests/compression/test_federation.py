"""Compressed uploads in whole federations."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lit_fed import DDG, FedAvg, FederatedModule, Payload
from lit_fed.aggregation import Aggregation, FlexLoRA, Krum, WeightedAverage
from lit_fed.aggregation.robust import Coordinates
from lit_fed.attachment import Attachment
from lit_fed.compression import EightBit, HalfPrecision, TopK
from lit_fed.federation import VectorizedClients
from tests.federation.execution.agreement import adamw, assert_close, run
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer, without_times
from tests.slow import slow_but

WAYS: dict[str, Callable[[], list[Attachment]]] = {
    "top k": lambda: [TopK(0.1)],
    "eight bits": lambda: [EightBit()],
    "half precision": lambda: [HalfPrecision()],
    "top k in eight bits": lambda: [TopK(0.1), EightBit("tensor")],
    "top k in half precision": lambda: [TopK(0.1), HalfPrecision("float16")],
}


class Seen(Callback):
    """Keeps the updates that the method is given."""

    def __init__(self) -> None:
        self.updates: list[Any] = []

    def on_client_end(self, trainer: Any, module: Any, update: Any) -> None:
        self.updates.append(update)


def fedavg(model: Path) -> FedAvg:
    return FedAvg(toy_backbone(model), optimizer=fast_adamw, warmup_steps=0)


def federation(model: Path, folder: Path, attachments: Sequence[Attachment], **more: Any) -> Any:
    seen, ckpt_path = Seen(), more.pop("ckpt_path", None)
    given = {"max_rounds": 2, "local_steps": 2, "clients_per_round": 3} | more
    trainer = toy_trainer(folder, attachments=list(attachments), callbacks=[seen], **given)
    trainer.fit(fedavg(model), toy_data(), ckpt_path)
    return trainer, seen


def bytes_of(way: str, tensors: dict[str, torch.Tensor]) -> int:
    """What each way sends, counted by hand."""
    total = 0
    for tensor in tensors.values():
        n, rows = tensor.numel(), len(tensor) if tensor.ndim > 1 else 1
        k = -(-n // 10)
        total += {
            "top k": k * (2 + 4),
            "eight bits": n + 4 * rows,
            "half precision": 2 * n,
            "top k in eight bits": k * (2 + 1) + 4,
            "top k in half precision": k * (2 + 2),
        }[way]
    return total


@pytest.mark.parametrize("way", slow_but("half precision", "top k in eight bits", of=WAYS))
def test_the_ledger_has_what_was_sent_and_the_run_goes_on_bit_for_bit(
    way: str, toy_model: Path, tmp_path: Path
) -> None:
    trainer, seen = federation(toy_model, tmp_path / "whole", WAYS[way]())
    whole = trainer.federation
    weights = fedavg(toy_model).backbone.trainable()
    size, full = bytes_of(way, weights), sum(4 * p.numel() for p in weights.values())
    assert [(up, down) for up, down in whole.ledger.rounds] == [(3 * size, 3 * full)] * 2
    assert [row["bytes/up"] for row in whole.history] == [3 * size] * 2
    for update in seen.updates:
        assert (update.nbytes, update.payload.nbytes) == (size, full)
        assert {n: t.dtype for n, t in update.payload.tensors.items()} == {
            n: p.dtype for n, p in weights.items()
        }
    assert not whole.failures

    federation(toy_model, tmp_path / "parts", WAYS[way](), max_rounds=1)
    resumed = federation(toy_model, tmp_path / "parts", WAYS[way](), ckpt_path="last")[0].federation
    assert without_times(resumed.history) == without_times(whole.history)
    # callbacks keep times
    assert replace(resumed, history=[], callbacks={}) == replace(whole, history=[], callbacks={})
    assert any(state.attachments for state in whole.clients.values()) == way.startswith("top k")


@pytest.mark.parametrize(
    ("method", "way"),
    slow_but(
        (FedAvg, "half precision"), (DDG, "top k in eight bits"), of=product([FedAvg, DDG], WAYS)
    ),
)
def test_vectorized_clients_send_what_single_ones_do(
    way: str, method: type[FederatedModule], toy_model: Path, tmp_path: Path
) -> None:
    def state(folder: str, execution: Any) -> Any:
        module = method(toy_backbone(toy_model), optimizer=adamw, warmup_steps=0)
        given = {"attachments": WAYS[way](), "local_steps": 2}
        return run(module, toy_data(), tmp_path / folder, execution, **given)

    single, together = state("single", None), state("together", VectorizedClients(3))
    assert together.ledger == single.ledger
    assert_close(together.broadcast, single.broadcast)
    for name, client in single.clients.items():
        for part, memory in client.attachments.parts.items():
            assert_close(together.clients[name].attachments.parts[part], memory)


def test_parts_pass_or_are_rounded(toy_model: Path, tmp_path: Path) -> None:
    def state(folder: str, attachments: list[Attachment]) -> Any:
        module = DDG(toy_backbone(toy_model), optimizer=adamw, warmup_steps=0)
        given = {"attachments": attachments, "local_steps": 2, "max_rounds": 1}
        return run(module, toy_data(), tmp_path / folder, None, **given)

    whole, passing, chosen = (
        state(str(number), list(attachments))
        for number, attachments in enumerate(
            ((), (EightBit("tensor"),), (EightBit("tensor", ["consensus"]),))
        )
    )
    assert passing.broadcast.parts == whole.broadcast.parts != chosen.broadcast.parts
    assert not chosen.failures
    for name, tensor in whole.broadcast.parts["consensus"].tensors.items():
        near = chosen.broadcast.parts["consensus"].tensors[name]
        torch.testing.assert_close(near.double(), tensor.double(), rtol=0, atol=0.02)
    assert chosen.ledger.up < passing.ledger.up < whole.ledger.up


def test_draws_are_of_the_client_and_the_round(toy_model: Path, tmp_path: Path) -> None:
    class Drawn(Attachment):
        def __init__(self) -> None:
            super().__init__()
            self.of: dict[tuple[str, int], float] = {}

        def upload(self, client: Any, upload: Payload, broadcast: Payload, memory: Payload) -> Any:
            self.of[client.id, client.round] = float(torch.rand(()))
            return upload, memory

    first, second, other = Drawn(), Drawn(), Drawn()
    federation(toy_model, tmp_path / "two", [first, second])
    # of no effect: how much training draws
    federation(toy_model, tmp_path / "one", [other], local_steps=1)
    values = [*first.of.values(), *second.of.values()]
    assert len(set(values)) == len(values) == 12
    assert other.of == first.of


def attached(model: Path, folder: Path, rule: Aggregation, attachment: Attachment) -> None:
    module = FedAvg(toy_backbone(model), rule, optimizer=fast_adamw, warmup_steps=0)
    given = {"max_rounds": 1, "local_steps": 1, "clients_per_round": 3}
    toy_trainer(folder, attachments=[attachment], **given).fit(module, toy_data())


class Owing(Attachment):
    """Somebody's own that remembers changes."""

    @property
    def remembers_changes(self) -> bool:
        return True


@pytest.mark.parametrize("attachment", [TopK(0.1), Owing()], ids=["TopK", "own"])
def test_what_is_remembered_of_factors_is_refused_where_they_are_others_in_each_round(
    attachment: Attachment, toy_model: Path, tmp_path: Path
) -> None:
    said = rf"{type(attachment).__name__} adds .* but FlexLoRA broadcasts others .* `error_feedback` false"
    with pytest.raises(ValueError, match=said):
        attached(toy_model, tmp_path / "refused", FlexLoRA(), attachment)
    assert not (tmp_path / "refused").exists()


def test_a_rule_whose_factors_are_others_goes_with_what_remembers_nothing(
    toy_model: Path, tmp_path: Path
) -> None:
    attached(toy_model, tmp_path, FlexLoRA(), TopK(0.1, error_feedback=False))


def test_what_is_remembered_of_factors_is_warned_of_where_they_are_turned_back(
    toy_model: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.warns(UserWarning, match=r"TopK adds .* Krum has made LoRA's factors anew"):
        attached(toy_model, tmp_path / "products", Krum(0), TopK(0.1))
    rules = (WeightedAverage(), Krum(0, geometry=Coordinates()))
    for number, rule in enumerate(rules):
        attached(toy_model, tmp_path / str(number), rule, TopK(0.1))
    assert not [one for one in recwarn if "TopK adds" in str(one.message)]


class Tampered(Attachment):
    """Sends something else than the compression before it gave."""

    def __init__(self, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(["client-0"])
        self.name, self.change = name, change

    def upload(self, client: Any, upload: Payload, broadcast: Payload, memory: Payload) -> Any:
        name = next(n for n in upload.tensors if n.endswith(self.name))
        changed = {**upload.tensors, name: self.change(upload.tensors[name])}
        return Payload(changed, upload.strings, upload.parts), memory


TAMPERED: dict[str, tuple[Attachment, Attachment, str]] = {
    "index": (TopK(), Tampered("/indices", lambda t: t + 2000), "different positions from 0"),
    "count": (TopK(), Tampered("/values", lambda t: t[1:]), r"is expected to have \d+ values"),
    "levels": (EightBit(), Tampered("/levels", lambda t: t * 0 - 128), "with -128"),
    "scale": (EightBit(), Tampered("/scale", lambda t: -t - 1), "scales of at least 0"),
    "infinite": (EightBit(), Tampered("/scale", lambda t: t / 0), "to be finite"),
    "shape": (EightBit(), Tampered("/scale", lambda t: t[:1]), "of shape"),
    "half": (HalfPrecision(), Tampered("/half", lambda t: t[:1]), "of shape .* but holds"),
}


@pytest.mark.parametrize("way", TAMPERED)
def test_a_malformed_upload_leaves_its_client_out(
    way: str, toy_model: Path, tmp_path: Path
) -> None:
    compression, tampered, said = TAMPERED[way]
    with pytest.warns(UserWarning, match=f"'client-0' is left out: .*{said}"):
        trainer, seen = federation(
            toy_model, tmp_path, [compression, tampered], clients_per_round=4, local_steps=1
        )
    assert trainer.federation.failures == {"client-0": 2}
    assert len(seen.updates) == 6
    assert "client-0" not in trainer.federation.clients


def test_the_server_does_not_rely_on_what_the_client_has_checked(
    toy_model: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """What is wrong with bytes on their way is found where they arrive."""

    class Late(TopK):
        asked = 0

        def received(self, client: Any, upload: Payload, broadcast: Payload) -> Payload:
            type(self).asked += client.id == "client-0"
            if client.id == "client-0" and self.asked == 2:  # the first time in its own round
                raise KeyError("indices")
            return super().received(client, upload, broadcast)

    trainer, seen = federation(
        toy_model, tmp_path, [Late()], clients_per_round=4, local_steps=1, max_rounds=1
    )
    assert Late.asked == 2
    assert trainer.federation.failures == {"client-0": 1}
    assert len(seen.updates) == 3
    assert "client-0" not in trainer.federation.clients
    assert len(trainer.federation.ledger.clients) == 4  # it has been sent all the same
    assert any("'client-0' is left out: 'indices'" in str(w.message) for w in recwarn)
