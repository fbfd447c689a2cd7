"""The filter beside plain passes and scikit-learn, in a federation, what it tells and misses, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from datasets import Dataset
from sklearn.cluster import KMeans
from transformers import AutoModel, GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from lit_fed import FedAvg
from lit_fed.attachment import Attachment
from lit_fed.backbones import CausalLM
from lit_fed.client import Client
from lit_fed.data import (
    CausalLMEncoding,
    ChatRecords,
    EmbeddedInstructions,
    FederatedDataModule,
    InstructionEncoding,
)
from lit_fed.defenses import PrototypeFilter, ReferenceLanguageModel
from tests.defenses.rows import Rows, client
from tests.federation.toy import fast_adamw, toy_data, toy_trainer
from tests.methods.toy_methods import lm_data, lm_rows, save_toy_lm

TOPICS = [["sad", "story", "bad"], ["happy", "place", "good"], ["long", "day", "cold"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = {word for words in TOPICS for word in words}
    return save_toy_lm(tmp_path_factory.mktemp("lm"), more=sorted(words))


def rows_of_topics(count: int, seed: int, elsewhere: float = 0.0) -> Dataset:
    """Prompts of six words of a topic, and answers of as many; of a share, of another topic."""
    draw = np.random.default_rng(seed)
    prompts, answers = [], []
    for i in range(count):
        topic = int(draw.integers(3))
        other = (topic + 1) % 3 if i < elsewhere * count else topic
        prompts.append(" ".join(draw.permutation(TOPICS[topic] * 2)))
        answers.append(" ".join(draw.permutation(TOPICS[other] * 2)))
    return Dataset.from_dict({"text": prompts, "answer": answers})


def prepared(**settings: Any) -> FederatedDataModule:
    data = lm_data(**{"train": rows_of_topics(48, 0)} | settings)
    data.setup("fit")
    return data


def attached(folder: Path, data: FederatedDataModule, **settings: Any) -> PrototypeFilter:
    model = ReferenceLanguageModel(str(folder))
    defence = PrototypeFilter(language_model=model, **settings)
    defence.attach(FedAvg(), data)
    return defence


def plain_vectors(folder: Path, texts: list[str], ends: bool = False) -> npt.NDArray[np.float64]:
    """The mean of the last states, text by text; what is learnt of an answer ends with the token that ends it."""
    model = AutoModel.from_pretrained(folder).double().eval()
    tokenizer = CausalLM(str(folder)).tokenizer
    end = [tokenizer.eos_token_id] if ends else []
    with torch.no_grad():
        ids = [[*tokenizer(text)["input_ids"], *end] for text in texts]
        states = [model(torch.tensor([one])).last_hidden_state for one in ids]
    found: npt.NDArray[np.float64] = np.stack([one[0].mean(0).numpy() for one in states])
    return found


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float64)


def test_scores_and_rows_are_those_of_plain_passes_and_scikit_learn(folder: Path) -> None:
    references, rows = rows_of_topics(40, 3), rows_of_topics(30, 4, elsewhere=0.3)
    data = prepared(public=references)
    defence = attached(folder, data, num_prototypes=4, alpha=0.2, seed=1)

    def prompts(table: Dataset) -> npt.NDArray[np.float64]:
        return plain_vectors(folder, [f"text : {text} is :" for text in table["text"]])

    def answers(table: Dataset) -> npt.NDArray[np.float64]:
        return plain_vectors(folder, table["answer"][:], ends=True)

    order = np.random.default_rng(1).permutation(40)
    fitted, held_out = (references.select(np.sort(part)) for part in (order[12:], order[:12]))
    means = prompts(fitted).mean(0), answers(fitted).mean(0)
    both = unit(np.concatenate([prompts(fitted) - means[0], answers(fitted) - means[1]]))
    found = KMeans(4, n_init=1, random_state=1).fit(both)
    axes = unit(found.cluster_centers_)

    def scores(table: Dataset) -> npt.NDArray[np.float64]:
        cosines = unit(prompts(table) - means[0]) @ axes.T, unit(answers(table) - means[1]) @ axes.T
        return np.linalg.norm(cosines[0] - cosines[1], axis=-1)

    assert defence.scores(rows).tolist() == pytest.approx(scores(rows).tolist(), abs=1e-4)
    p = [((scores(held_out) >= score).sum() + 1) / 13 for score in scores(rows)]
    rejected = defence.judge(client(), rows).rejected
    assert rejected.tolist() == [one <= 0.2 for one in p]
    assert 0 < rejected.sum() < len(rows)


def test_answers_to_something_else_are_dropped(folder: Path) -> None:
    data, rows = prepared(public=rows_of_topics(150, 3)), rows_of_topics(200, 4, elsewhere=0.5)
    for alpha in (0.1, None):
        defence = attached(folder, data, num_prototypes=3, alpha=alpha)
        rejected = defence.judge(client(), rows).rejected
        assert rejected[:100].mean() > 0.85
        assert rejected[100:].mean() < 0.15


@pytest.mark.slow
def test_a_phrase_at_the_end_hardly_moves_a_mean(tmp_path: Path) -> None:
    """What the class says of itself, by the embedded decoder: answers to others are told, a phrase more is not."""
    rows = EmbeddedInstructions(split="train").load().select(range(300))
    data = FederatedDataModule(
        train=rows.select(range(150, 300)),
        validation=None,
        public=rows.select(range(150)),
        encoding=InstructionEncoding(),
        num_clients=2,
    )
    data.setup("fit")
    defence = PrototypeFilter(alpha=0.1)
    defence.attach(FedAvg(), data)
    clean = rows.select(range(150, 300))
    responses = data.encoding.responses(clean)
    phrase = data.encoding.with_responses(clean, [f"{text} I like rice." for text in responses])
    other = data.encoding.with_responses(clean, [*responses[1:], responses[0]])
    dropped = [defence.judge(client(), table).rejected.mean() for table in (clean, phrase, other)]
    assert dropped[1] < dropped[0] + 0.05
    assert dropped[2] > 2 * dropped[0]


class AnswersElsewhere(Attachment):
    """Gives a third of a client's rows the answer of another topic."""

    def rows(self, client: Client, rows: Dataset) -> Dataset:
        other = {
            word: TOPICS[(t + 1) % 3][i]
            for t, one in enumerate(TOPICS)
            for i, word in enumerate(one)
        }
        texts = [
            " ".join(other[word] for word in text.split()) if i % 3 == 0 else text
            for i, text in enumerate(rows["answer"])
        ]
        return rows.remove_columns("answer").add_column("answer", texts)


def test_rows_are_dropped_in_a_federation(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ReferenceLanguageModel(str(folder))
    defence = PrototypeFilter(language_model=model, num_prototypes=3, alpha=0.1)
    trainer = toy_trainer(
        tmp_path, attachments=[AnswersElsewhere(), defence], clients_per_round=1.0, max_rounds=1
    )
    data = lm_data(train=rows_of_topics(48, 0), public=rows_of_topics(150, 3))
    trainer.fit(FedAvg(CausalLM(str(folder)), optimizer=fast_adamw), data)
    assert 0.5 < trainer.federation.history[-1]["defense/PrototypeFilter/kept"] < 0.72


@pytest.mark.parametrize("alpha", [0.1, None])
def test_what_is_learnt_is_what_is_judged(folder: Path, alpha: float | None) -> None:
    encoding = CausalLMEncoding(
        template="text : {text} is : {answer}", response="answer", truncation="end"
    )
    settings = {"encoding": encoding, "max_length": 17}
    data = prepared(public=rows_of_topics(150, 3), **settings)
    defence = attached(folder, data, num_prototypes=3, alpha=alpha)
    # what stands behind what is read changes nothing, and a row of which nothing is learnt is dropped
    whole = rows_of_topics(20, 4, elsewhere=0.5)

    def with_more(words: str) -> Dataset:
        texts = [f"{text} {words}" for text in whole["answer"]]
        return whole.remove_columns("answer").add_column("answer", texts)

    near, far = with_more("sad"), with_more("sad happy happy place place")
    assert defence.encoded(far).lengths.max() == 17
    assert defence.scores(near).tolist() == defence.scores(far).tolist()
    behind = whole.remove_columns("text").add_column("text", ["sad " * 20] * 20)
    assert defence.judge(client(), behind).rejected.all()


def test_a_chat_that_goes_on_is_judged_as_far_as_it_is_learnt(tmp_path: Path) -> None:
    rows = EmbeddedInstructions(split="train", size=60).load()
    encoding = InstructionEncoding(ChatRecords("messages"))

    def chats(after: bool) -> Dataset:
        prompts = [f"{r['instruction']} {r['context']}".strip() for r in rows]
        found = [
            [{"role": "user", "content": p}, {"role": "assistant", "content": r}]
            for p, r in zip(prompts, rows["response"], strict=True)
        ]
        more = [{"role": "user", "content": "Thanks."}] if after else []
        return Dataset.from_dict({"messages": [[*one, *more] for one in found]})

    data = FederatedDataModule(
        train=chats(False), validation=None, public=chats(False), encoding=encoding, num_clients=2
    )
    data.setup("fit")
    data.check({"backbone": CausalLM(None)})
    defence = PrototypeFilter(num_prototypes=5, alpha=0.2)
    defence.attach(FedAvg(), data)
    same = defence.scores(chats(True)).tolist()
    assert same == pytest.approx(defence.scores(chats(False)).tolist(), abs=1e-5)


@pytest.mark.parametrize("alpha", [0.1, None])
def test_a_row_that_cannot_be_judged_is_dropped(folder: Path, alpha: float | None) -> None:
    defence = attached(
        folder, prepared(public=rows_of_topics(60, 3)), num_prototypes=3, alpha=alpha
    )
    with torch.no_grad():
        parameter = next(defence.language_model.backbone.parameters())
        parameter.fill_(torch.nan)
    assert defence.judge(client(), rows_of_topics(6, 1)).rejected.all()


def test_last_states_may_have_another_width_than_the_hidden_ones(
    folder: Path, tmp_path: Path
) -> None:
    toy = CausalLM(str(folder))
    toy.tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 16, "ffn_dim": 32}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64}
    config = OPTConfig(
        vocab_size=toy.model.config.vocab_size, do_layer_norm_before=False, **sizes, **layers
    )
    OPTForCausalLM(config).save_pretrained(tmp_path)
    data = prepared(public=rows_of_topics(60, 3))
    defence = attached(tmp_path, data, num_prototypes=3, alpha=0.1)
    assert defence._prototypes.vectors.shape == (3, 16)
    assert defence.scores(rows_of_topics(4, 1)).isfinite().all()


def test_what_it_cannot_judge_by_is_refused(folder: Path, tmp_path: Path) -> None:
    def said(public: Dataset | None, **settings: Any) -> str:
        with pytest.raises(ValueError, match="PrototypeFilter") as refused:
            attached(folder, prepared(public=public), **settings)
        return str(refused.value)

    enough = rows_of_topics(60, 3)
    assert "leave at least 19 rows for its calibration" in said(
        enough.select(range(40)), num_prototypes=3
    )
    assert (
        "num_prototypes` is expected to be at most 84, the prompts and answers of the 42"
        in said(enough, num_prototypes=100)
    )
    assert "PrototypeFilter.references` is expected where" in said(None)
    model = ReferenceLanguageModel(str(folder))
    few = tmp_path / "few"
    tokenizer = CausalLM(str(folder)).tokenizer
    tokenizer.save_pretrained(few)
    sizes = {"n_positions": 64, "n_embd": 8, "n_layer": 1, "n_head": 1}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(few)
    longer = prepared(public=enough, max_length=100)
    with pytest.raises(
        ValueError, match=r"language_model` is expected to read the 100 .* reads 64"
    ):
        PrototypeFilter(language_model=ReferenceLanguageModel(str(few))).attach(FedAvg(), longer)
    with pytest.raises(TypeError, match=r"PrototypeFilter.references` is expected to be a table"):
        PrototypeFilter("clean.jsonl", model).attach(FedAvg(), prepared())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"language_model` is expected to be an instance of Refer"):
        PrototypeFilter(language_model=ReferenceLanguageModel)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"clients` to name one at least, or null, but got an empty"
    ):
        PrototypeFilter(clients=[])
    for alpha in (0.1, None):
        none = PrototypeFilter(Rows(enough.select([])), model, alpha=alpha)
        with pytest.raises(
            ValueError, match=r"PrototypeFilter.references` are expected to have rows"
        ):
            none.attach(FedAvg(), prepared())
        with pytest.raises(RuntimeError, match=r"PrototypeFilter expects attach\(\) before"):
            PrototypeFilter(language_model=model, alpha=alpha).rows(client(), enough)
    labelled = toy_data()
    labelled.setup("fit")
    with pytest.raises(
        ValueError, match=r"expects rows whose answers are texts, but `data.encoding` is"
    ):
        PrototypeFilter(language_model=model).attach(FedAvg(), labelled)
    assert lm_rows(1, 0).column_names == enough.column_names
