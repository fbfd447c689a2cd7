"""The template by which a client has written its rows travels with its upload, and another one is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import FedAvg, FederatedTrainer, Payload
from lit_fed.attachment import Attachment
from lit_fed.backbones import CausalLM
from lit_fed.compression import HalfPrecision
from lit_fed.data import (
    ChatMLTemplate,
    FederatedDataModule,
    InstructionEncoding,
    InstructionRecords,
)
from tests.federation.toy import toy_trainer
from tests.methods.toy_chats import chat_rows, save_chat_lm
from tests.methods.toy_methods import lm_data, save_toy_lm


class OtherTemplate(Attachment):
    """A site that writes its rows by a template of its own."""

    def upload(self, client: Any, upload: Payload, broadcast: Payload, memory: Payload) -> Any:
        told = Payload(strings={"template": ["another one"]})
        return upload.with_parts({"format": told}), memory


def fit(
    folder: Path, out: Path, *attachments: Attachment, **settings: Any
) -> tuple[FederatedTrainer, FedAvg]:
    torch.manual_seed(0)
    encoding = InstructionEncoding(InstructionRecords(context=None), **settings)
    data = FederatedDataModule(
        chat_rows(30), encoding=encoding, num_clients=3, batch_size=4, max_length=200, seed=0
    )
    trainer = toy_trainer(
        out, max_rounds=2, local_epochs=None, local_steps=2, attachments=list(attachments)
    )
    module = FedAvg(CausalLM(str(folder)))
    trainer.fit(module, data)
    return trainer, module


def test_another_template_is_refused_by_name(tmp_path: Path) -> None:
    folder = save_chat_lm(tmp_path / "model")
    with pytest.warns(
        UserWarning,
        match=r"client 'client-1' is left out: client 'client-1' is expected to write its rows by the template of "
        r"digest [0-9a-f]{16}, .* but does so by another one",
    ):
        trainer, _ = fit(folder, tmp_path / "out", OtherTemplate(["client-1"]))
    assert trainer.federation.failures == {"client-1": 2}


class Boosted(Attachment):
    """Scales an upload, and may forget what is there beside the weights."""

    def __init__(self, clients: list[str], forgets: bool) -> None:
        super().__init__(clients)
        self.forgets = forgets

    def upload(self, client: Any, upload: Payload, broadcast: Payload, memory: Payload) -> Any:
        twice = {n: 2 * t for n, t in upload.tensors.items()}
        rest = () if self.forgets else (upload.strings, upload.parts)
        return Payload(twice, *rest), memory


def test_an_attachment_that_forgets_it_is_told_how_to_keep_it(tmp_path: Path) -> None:
    folder = save_chat_lm(tmp_path / "model")
    forgets, keeps = Boosted(["client-1"], True), Boosted(["client-0"], False)
    with pytest.warns(
        UserWarning, match=r"'format'.* missing; an attachment .* upload.strings, upload.parts\)"
    ):
        trainer, _ = fit(folder, tmp_path / "out", forgets, keeps)
    assert trainer.federation.failures == {"client-1": 2}


def test_it_counts_in_the_ledger_and_goes_with_compression(tmp_path: Path) -> None:
    folder = save_chat_lm(tmp_path / "model")
    trainer, module = fit(folder, tmp_path / "a", HalfPrecision(), packing=True)
    assert not trainer.federation.failures
    weights = Payload(dict(module.backbone.trainable()))
    digest = module.template_digest
    assert digest == module.data.encoding.digest(module.tokenizer)
    sent = module.upload()
    assert sent.parts["format"].strings == {"template": (digest,)}
    assert sent.nbytes == weights.nbytes + sent.parts["format"].nbytes
    assert sent.parts["format"].nbytes >= 16
    other = InstructionEncoding(template=ChatMLTemplate()).digest(module.tokenizer)
    assert other != digest


def test_other_encodings_send_weights_alone(tmp_path: Path) -> None:
    module = FedAvg(CausalLM(str(save_toy_lm(tmp_path))))
    assert module.template_digest is None
    module.datamodule = lm_data()
    assert module.template_digest is None
    assert not module.upload().parts
    assert not module.expected_upload().parts
