"""Semantic consensus of language models: answers are texts, and become the responses that are learnt."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import SemanticConsensus
from lit_fed.backbones import CausalLM
from lit_fed.data import CausalLMEncoding
from lit_fed.federation import DistributedClients, VectorizedClients
from lit_fed.methods.semantic_consensus import ConfidenceWeight, LabelAnswers, TextAnswers
from tests.federation.toy import fast_adamw
from tests.methods.semantic_consensus.federations import consensus_rows, consenting, fitted
from tests.methods.toy_methods import continue_text, lm_data, lm_rows, save_toy_lm


@pytest.fixture(scope="module")
def toy_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm") / "model")


def writing(model: Path, **settings: Any) -> Any:
    given = {
        "warmup_rounds": 1,
        "consensus_every": 1,
        "answers": TextAnswers(max_characters=24, max_new_tokens=6),
    }
    return continue_text(SemanticConsensus, model, **given | settings)


def test_clients_write_learn_and_are_cut(toy_lm: Path, tmp_path: Path) -> None:
    module = writing(toy_lm)
    data = lm_data(train=lm_rows(160, 0), num_clients=3)
    trainer = fitted(tmp_path, module, data, max_rounds=4, local_epochs=2)
    ballots = module.server.ballots
    assert ballots is not None
    told = [text for texts in ballots.answers for text in texts if text is not None]
    assert told
    assert all(text == text.strip() and 0 < len(text) <= 24 for text in told)
    assert consensus_rows(trainer, "pseudo_label_accuracy")[-1] > 0.3
    learnt = [row.get("clients/train/consensus/mean", 0.0) for row in trainer.federation.history]
    assert learnt[0] == 0
    assert learnt[-1] > 0
    assert not [name for row in trainer.federation.history for name in row if "share/" in name]
    # a client's own greedy answer, asked for anew, is what it would have sent
    trainer.act_as_client(0)
    with torch.no_grad():
        one = module.answers.answer(module, data.public, with_confidence=True)
        alone = module.backbone.generate(module.data.encoding.prompts(data.public), 6)
    assert one.texts == tuple(text.strip()[:24].strip() or None for text in alone)


def test_it_is_as_sure_as_its_tokens_are_likely(toy_lm: Path, tmp_path: Path) -> None:
    module = writing(toy_lm, vote_weight=ConfidenceWeight())
    data = lm_data(public=lm_rows(3, 3))
    trainer = fitted(tmp_path, module, data, max_rounds=1)
    assert module.server.ballots is not None
    trainer.act_as_client(1)
    model = module.backbone.model.eval()
    weights = module.server.ballots.weights[1]
    for place, (prompt, text) in enumerate(
        zip(
            module.data.encoding.prompts(data.public),
            module.server.ballots.answers[1],
            strict=True,
        )
    ):
        if text is None:
            assert weights[place] == 0
            continue
        tokenizer = module.tokenizer
        head, tail = tokenizer(prompt.strip())["input_ids"], tokenizer(text)["input_ids"]
        ids = torch.tensor([[*head, *tail, tokenizer.eos_token_id]])
        with torch.no_grad():
            logs = model(ids).logits.log_softmax(-1)[0]
        own = [float(logs[i - 1, ids[0, i]]) for i in range(len(head), ids.shape[1])]
        expected = torch.tensor(own).mean().exp()
        assert float(weights[place]) == pytest.approx(float(expected), rel=2e-3)


def test_packed_rows_of_different_tokenizers(toy_lm: Path, tmp_path: Path) -> None:
    encoding = CausalLMEncoding("text : {text} is : {answer}", response="answer")
    encoding.packing = True
    module = writing(toy_lm)
    trainer = fitted(tmp_path, module, lm_data(encoding=encoding), accumulate_grad_batches=2)
    assert consensus_rows(trainer, "answered")


def test_other_kinds_are_refused_in_a_line(toy_lm: Path, toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"LabelAnswers expects `model\.backbone` to be one that"):
        fitted(tmp_path / "a", writing(toy_lm, answers=LabelAnswers()), lm_data())
    with pytest.raises(ValueError, match=r"TextAnswers expects `data\.encoding` to have prompts"):
        fitted(tmp_path / "b", consenting(toy_model, answers=TextAnswers()))
    with pytest.raises(ValueError, match=r"`model\.answers\.max_new_tokens`: .*100"):
        fitted(tmp_path / "c", writing(toy_lm, answers=TextAnswers(max_new_tokens=100)), lm_data())
    # before the warm-up, after which the first texts are due
    many = VectorizedClients(2)
    for name, execution in {"d": many, "e": DistributedClients(many)}.items():
        module = writing(toy_lm, warmup_rounds=2)
        with pytest.raises(ValueError, match=r"cannot run `backbone\.generate`"):
            fitted(tmp_path / name, module, lm_data(), execution=execution, max_rounds=3)
        assert not (tmp_path / name).exists()
    alone = writing(toy_lm, consensus_rounds=0)
    fitted(tmp_path / "alone", alone, lm_data(), execution=many, max_rounds=1)
    assert SemanticConsensus(CausalLM(str(toy_lm)), optimizer=fast_adamw).answers.max_characters
