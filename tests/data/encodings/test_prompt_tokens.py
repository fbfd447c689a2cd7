"""What is trained on is what generation starts from and learns to give, with tokenizers of every kind."""

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from lit_fed.data import CausalLMEncoding, ClassificationEncoding
from lit_fed.data.encodings.prompt_tokens import border, following_tokens, prompt_tokens
from lit_fed.data.features import IGNORED
from tests.slow import slow_but

TEXTS = [
    "Question: what is the capital of France?\nAnswer: Paris",
    "Question: (the doctor) gave Mary a book\nAnswer: because she asked for it",
    "你好，世界！ 医生把书给了玛丽。 naïve café — 2 + 2 = 4",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def _fast(tokenizer: Tokenizer, begins: bool = True) -> PreTrainedTokenizerFast:
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=SPECIAL[3:],
    )


def _gpt2() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return _fast(tokenizer, begins=False)


def _llama() -> PreTrainedTokenizerFast:
    """As SentencePiece's: a blank before the text, and blanks as characters of words."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=list("<>/|_"), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return _fast(tokenizer)


def _unigram() -> PreTrainedTokenizerFast:
    """As of T5."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _fast(tokenizer)


def _words() -> PreTrainedTokenizerFast:
    words = dict.fromkeys(" ".join(TEXTS).replace(":", " :").replace("?", " ?").split())
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return _fast(tokenizer)


KINDS = {"gpt2": _gpt2(), "llama": _llama(), "unigram": _unigram(), "words": _words()}
ENCODING = CausalLMEncoding("Question: {question}\nAnswer: {answer}", response="answer")


def _rows(question: str, answer: str) -> Dataset:
    return Dataset.from_dict({"question": [question], "answer": [answer]})


def _trained(
    encoding: CausalLMEncoding, rows: Dataset, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], list[int]]:
    """The tokens before what is learnt, and those that are learnt."""
    features = encoding.encode(rows, tokenizer, 1000)
    labels = features.row("labels", 0).tolist()
    start = sum(label == IGNORED for label in labels)
    ids = features.row("input_ids", 0).tolist()
    assert labels == [IGNORED] * start + ids[start:]
    return ids[:start], ids[start:]


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_is_cut_as_the_text_is(kind: str) -> None:
    tokenizer = KINDS[kind]
    for text in TEXTS[:2]:
        question, answer = text.removeprefix("Question: ").split("\nAnswer: ")
        head, tail = _trained(ENCODING, _rows(question, answer), tokenizer)
        assert head + tail == [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]


# Blanks, line ends and brackets, where a token may join the prompt with the response.
PARTS = st.lists(
    st.sampled_from(["a", "Paris", " ", "  ", "\n", "(", ":", "é", "你", "</s>"]), max_size=6
).map("".join)


@pytest.mark.parametrize(
    "template",
    slow_but(
        "{question}{answer}",
        of=["{question}{answer}", "{question}: {answer}", "({question}\n{answer})"],
    ),
)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(question=PARTS, answer=PARTS)
def test_generation_starts_from_the_tokens_of_training(
    kind: str, template: str, question: str, answer: str
) -> None:
    tokenizer = KINDS[kind]
    encoding = CausalLMEncoding(template, response="answer")
    rows = _rows(question, answer)
    head, tail = _trained(encoding, rows, tokenizer)
    (prompt,) = encoding.prompts(rows)
    assert encoding.prompt_ids(rows, tokenizer) == [head]
    if "</s>" not in prompt:
        assert prompt_tokens(tokenizer, [border(prompt)[0]]) == [head]
    # the response does not change what it is generated from
    assert _trained(encoding, _rows(question, "other"), tokenizer)[0] == head
    # typed special tokens are none
    assert tokenizer.eos_token_id not in [*head[1:], *tail[:-1]]
    assert tail[-1] == tokenizer.eos_token_id
    if kind in ("gpt2", "llama"):
        # what is generated is the answer, and nothing of the text is lost
        said = tokenizer.decode(tail[:-1]).strip()
        ending = template.partition("{answer}")[2]
        assert said.replace(" ", "") == f"{answer}{ending}".strip().replace(" ", "")


@pytest.mark.parametrize("kind", ["gpt2", "llama", "words"])
def test_special_tokens_of_the_template_are_meant_and_typed_ones_are_text(kind: str) -> None:
    tokenizer = KINDS[kind]
    template = "<|im_start|>{question}<|im_end|><|im_start|> {answer}<|im_end|>"
    start, end, eos = (tokenizer.convert_tokens_to_ids(t) for t in (*SPECIAL[3:], "</s>"))
    for question in ("a", "a <|im_end|> b </s>"):
        rows = _rows(question, question)
        split = CausalLMEncoding(template, response="answer")
        head, tail = _trained(split, rows, tokenizer)
        assert split.prompt_ids(rows, tokenizer) == [head]
        ids = [i for i in head + tail if i in (start, end, eos)]
        assert ids == [start, end, start, end, eos]
        assert head[-1] == start
        asked = CausalLMEncoding(template, response="answer", split_special_tokens=False)
        whole = template.format(question=question, answer=question)
        head, tail = _trained(asked, rows, tokenizer)
        assert head + tail == [*tokenizer(whole)["input_ids"], eos]


def test_classification_reads_typed_special_tokens_as_text(
    wordpiece: PreTrainedTokenizerFast,
) -> None:
    rows = Dataset.from_dict({"text": ["a [SEP] b"], "label": [0]})
    ids = ClassificationEncoding("text", None).encode(rows, wordpiece, 20).row("input_ids", 0)
    assert ids.tolist().count(3) == 1
    asked = ClassificationEncoding("text", None, split_special_tokens=False)
    assert asked.encode(rows, wordpiece, 20).row("input_ids", 0).tolist().count(3) == 2


def test_rows_that_are_cut_are_counted(wordpiece: PreTrainedTokenizerFast) -> None:
    rows = Dataset.from_dict({"text": ["a b c", "a b c d", "a"], "label": [0, 1, 0]})
    assert ClassificationEncoding("text", None).encode(rows, wordpiece, 5).cut == 1
    rows = rows.rename_columns({"text": "question", "label": "answer"})
    assert ENCODING.encode(rows, KINDS["gpt2"], 3).cut == 3
    assert ENCODING.encode(rows, KINDS["gpt2"], 1000).cut == 0


def test_what_follows_a_joined_border_begins_without_a_blank() -> None:
    """By SentencePiece: `ab` joins the border of `xa` and `b…`, and alone `b…` would begin with the word `▁b`."""
    words = ["▁xa", "▁x", "▁b", "ab", "▁", "x", "a", "b", "c"]
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    merges = [("a", "b"), ("▁", "x"), ("▁x", "a"), ("▁", "b")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    kind = _fast(tokenizer)
    assert kind.convert_ids_to_tokens(kind("xabc", add_special_tokens=False)["input_ids"]) == [
        "▁x",
        "ab",
        "c",
    ]
    (tokens,) = following_tokens(kind, ["xa"], ["bc"])
    assert kind.convert_ids_to_tokens(tokens) == ["b", "c"]
