"""Two rounds beside NumPy and a plain model: answers, votes, labels, the loss and the step that follows from it."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from lit_fed import SemanticConsensus
from lit_fed.data import DirichletPartitioner
from lit_fed.methods.semantic_consensus import ConfidenceWeight, EqualWeight, SizeWeight, VoteWeight
from tests.federation.toy import toy_backbone, toy_rows, toy_trainer
from tests.methods.semantic_consensus.federations import small_data
from tests.methods.toy_methods import save_sober_model

RATE, ETA = 0.5, 0.25


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=RATE)


class Recorded(SemanticConsensus):
    """Keeps each client's public batches."""

    seen: Any

    def _next_public(self) -> Any:
        batch = super()._next_public()
        if self.client is not None and batch is not None:
            self.seen[self.client.id] = batch
        return batch


class Witness(Callback):
    """Keeps each client's own batches and losses of the last round."""

    def __init__(self) -> None:
        self.batches: dict[str, Any] = {}
        self.losses: dict[str, float] = {}

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        self.batches[module.client.id] = batch

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, i: int
    ) -> None:
        self.losses[module.client.id] = float(outputs["loss"])


def logits_of(model: Any, batch: Any) -> torch.Tensor:
    names = ("input_ids", "attention_mask", "token_type_ids")
    found: torch.Tensor = model(**{n: batch[n] for n in names if n in batch}).logits
    return found


def nats(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -logs[np.arange(len(labels)), labels]


@pytest.mark.parametrize("vote_weight", [EqualWeight(), SizeWeight(), ConfidenceWeight()])
def test_two_rounds_by_hand(vote_weight: VoteWeight, tmp_path: Path) -> None:
    backbone = toy_backbone(save_sober_model(tmp_path / "model"))
    module = Recorded(
        backbone,
        optimizer=sgd,
        vote_weight=vote_weight,
        warmup_rounds=1,
        consensus_every=5,
        eta=ETA,
        public_batch_size=6,
    )
    module.seen, witness = {}, Witness()
    plain = copy.deepcopy(backbone).double().eval()
    data = small_data(
        train=toy_rows(45, 0), num_clients=3, partitioner=DirichletPartitioner(alpha=0.3)
    )
    given = {
        "clients_per_round": 1.0,
        "local_steps": 1,
        "precision": "64-true",
        "gradient_clip_val": None,
        "test_at_end": False,
        "callbacks": [witness],
    }
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, **given)
    trainer.fit(module, data)
    before = {id: dict(one.private.tensors) for id, one in trainer.federation.clients.items()}

    # what each client answers, and the weighted vote
    public = list(data.dataloader(data.public, backbone.tokenizer))
    said, weights = [], []
    for client in data.clients:
        plain.load_trainable(before[client.id])
        with torch.no_grad():
            logits = np.concatenate([logits_of(plain.model, batch).numpy() for batch in public])
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities = shifted / shifted.sum(-1, keepdims=True)
        said.append(logits.argmax(-1))
        sure = probabilities.max(-1).astype(np.float16).astype(np.float64)
        weights.append(
            {
                EqualWeight: np.ones(20),
                SizeWeight: np.full(20, len(client.rows) / 45),
                ConfidenceWeight: sure,
            }[type(vote_weight)]
        )
    votes, answers = np.stack(weights), np.stack(said)
    assert (answers != answers[0]).any(), "clients that agree show nothing of the weights"
    shares = np.stack([(votes * (answers == label)).sum(0) for label in (0, 1)]) / votes.sum(0)
    labels, confidence = shares.argmax(0), shares.max(0)
    texts = [str(y) if c > 0.5 + 1e-9 else "" for y, c in zip(labels, confidence, strict=True)]
    sent = trainer.federation.broadcast.parts["labels"]
    assert list(sent.strings["texts"]) == texts
    assert any(texts)
    rounded = np.where([bool(t) for t in texts], confidence, 0).astype(np.float16)
    kept = sent.tensors["confidence"].numpy()
    np.testing.assert_allclose(kept, rounded[[bool(t) for t in texts]], rtol=1e-3)

    # the loss of the next round's step, and the step
    trainer = toy_trainer(tmp_path / "run", max_rounds=2, **given)
    trainer.fit(module, data, ckpt_path="last")
    after = {id: dict(one.private.tensors) for id, one in trainer.federation.clients.items()}
    for id, own in witness.batches.items():
        batch = module.seen[id]
        rows = batch["index"].numpy()
        assert set(rows) <= {place for place, text in enumerate(texts) if text}
        plain.load_trainable(before[id])
        one, other = logits_of(plain.model, own), logits_of(plain.model, batch)
        c = rounded.astype(np.float64)[rows]
        task = nats(one.detach().numpy(), own["labels"].numpy()).mean()
        pseudo = (c * nats(other.detach().numpy(), labels[rows])).mean()
        assert witness.losses[id] == pytest.approx(task + ETA * pseudo, rel=1e-3)
        loss = torch.nn.functional.cross_entropy(one, own["labels"])
        each = torch.nn.functional.cross_entropy(
            other, torch.from_numpy(labels[rows]), reduction="none"
        )
        (loss + ETA * (torch.from_numpy(c) * each).mean()).backward()
        for name, parameter in plain.trainable().items():
            assert parameter.grad is not None
            expected = before[id][name] - RATE * parameter.grad
            torch.testing.assert_close(after[id][name], expected, rtol=1e-3, atol=1e-6)
        plain.zero_grad()
