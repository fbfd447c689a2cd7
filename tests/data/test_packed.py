import numpy as np
import pytest
import torch
from datasets import Dataset

from lit_fed.backbones import CausalLM
from lit_fed.data import Features, FederatedDataModule, InstructionEncoding, InstructionRecords
from lit_fed.data.features import IGNORED
from lit_fed.data.packed import packed
from lit_fed.data.reader import PlainReader
from lit_fed.losses import cross_entropy
from tests.data.encodings import chat_tokenizers
from tests.methods.toy_chats import chat_rows, save_chat_lm


def features_of(*lengths: int) -> Features:
    rows = [list(range(10 * i + 1, 10 * i + 1 + n)) for i, n in enumerate(lengths, 1)]
    padding = {"input_ids": 0, "labels": IGNORED}
    return Features({"input_ids": rows, "labels": rows}, {"index": range(len(rows))}, padding)


@pytest.mark.parametrize("size", [9, 12, 100])
def test_every_row_is_once_in_a_sequence_with_positions_of_its_own(size: int) -> None:
    rows = features_of(3, 9, 1, 5, 4, 4, 2, 8)
    sequences = packed(rows, size)
    assert sequences.lengths.max() <= size
    assert sequences.lengths.sum() == rows.lengths.sum()
    assert len(sequences) <= 2 * -(-rows.lengths.sum() // size)
    found = []
    for place in range(len(sequences)):
        ids, labels, positions, segments = (
            sequences.row(name, place)
            for name in ("input_ids", "labels", "position_ids", "segment_ids")
        )
        assert segments.tolist() == sorted(segments.tolist())
        for segment in range(1, segments.max() + 1):
            inside = segments == segment
            assert positions[inside].tolist() == list(range(inside.sum()))
            assert labels[inside].tolist() == [IGNORED, *ids[inside].tolist()[1:]]
            found.append(ids[inside].tolist())
    assert sorted(found) == sorted(rows.row("input_ids", i).tolist() for i in range(8))


def test_a_longer_row_is_a_sequence_of_its_own() -> None:
    assert sorted(packed(features_of(7, 2, 3), 5).lengths) == [5, 7]


@pytest.fixture(scope="module")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    return CausalLM(str(save_chat_lm(tmp_path_factory.mktemp("chatting"))), peft=None)


def gradients(model: CausalLM, batch: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    prediction = model(batch)
    assert prediction.targets is not None
    loss = cross_entropy(prediction.logits, prediction.targets, prediction.mask)
    loss.backward()
    return float(loss), torch.cat(
        [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_loss_and_gradient_of_packed_rows_are_those_of_the_rows(
    chatting: CausalLM, attention: str, side: str
) -> None:
    chatting.model.set_attn_implementation(attention)
    encoding = InstructionEncoding(InstructionRecords(context=None))
    rows = encoding.encode(chat_rows(9), chatting.tokenizer, 400)
    sequences = packed(rows, 150)
    sequences.padding_side = side
    assert 1 < len(sequences) < 9
    loss, gradient = gradients(chatting, rows.batch(range(9)))
    of_packed, gradient_of_packed = gradients(chatting, sequences.batch(range(len(sequences))))
    assert of_packed == pytest.approx(loss, abs=1e-5)
    assert torch.allclose(gradient_of_packed, gradient, atol=1e-5)
    # without what tells rows apart it is another loss
    leaking = sequences.batch(range(len(sequences)))
    del leaking["segment_ids"], leaking["position_ids"]
    assert gradients(chatting, leaking)[0] != pytest.approx(loss, abs=1e-3)


def test_training_rows_are_packed_and_others_are_not(chatting: CausalLM) -> None:
    encoding = InstructionEncoding(InstructionRecords(context=None), packing=True)
    data = FederatedDataModule(
        chat_rows(30), encoding=encoding, num_clients=2, batch_size=2, max_length=200, seed=0
    )
    data.check({"backbone": chatting})
    rows = data.clients[0].rows
    plain = list(data.dataloader(rows, chatting.tokenizer, seed=1))
    batches = list(data.dataloader(rows, chatting.tokenizer, seed=1, packing=True))
    assert all("segment_ids" not in batch and "index" in batch for batch in plain)
    assert all("segment_ids" in batch and "index" not in batch for batch in batches)
    assert len(batches) < len(plain)
    assert np.sum([(batch["segment_ids"] > 0).sum() for batch in batches]) == np.sum(
        [batch["attention_mask"].sum() for batch in plain]
    )


def test_a_model_that_cannot_is_refused_by_name() -> None:
    encoding = InstructionEncoding(InstructionRecords(context=None), packing=True)
    data = FederatedDataModule(chat_rows(30), encoding=encoding, num_clients=2)
    with pytest.raises(
        ValueError, match=r"`data.encoding.packing` is expected to be false, since `model.backbone`"
    ):
        data.check({"backbone": PlainReader(chat_tokenizers.smollm())})
    with pytest.raises(ValueError, match=r"`data.encoding.weight` is expected to be null"):
        InstructionEncoding(packing=True, weight="weight")
    assert isinstance(chat_rows(2), Dataset)
