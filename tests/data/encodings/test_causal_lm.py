import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from lit_fed.data import CausalLMEncoding, Features
from lit_fed.data.features import IGNORED

TEMPLATE = "Question: {question}\nAnswer: {answer}"
ENCODING = CausalLMEncoding(TEMPLATE, response="answer")


def rows_of(*pairs: tuple[str | None, str | None]) -> Dataset:
    questions, answers = zip(*pairs, strict=True)
    return Dataset.from_dict({"question": list(questions), "answer": list(answers)})


def learnt(features: Features, position: int) -> list[int]:
    return [token for token in features.row("labels", position).tolist() if token != IGNORED]


def test_the_response_and_the_end_are_learnt(bpe: PreTrainedTokenizerFast) -> None:
    rows = rows_of(("capital of France?", "Paris"), ("2 + 2?", "四 é"))
    features = ENCODING.encode(rows, bpe, 200)
    for i, answer in enumerate(("Paris", "四 é")):
        row = features.row("input_ids", i).tolist()
        text = f"Question: {rows[i]['question']}\nAnswer: {answer}"
        assert bpe.decode(row) == f"<s>{text}</s>"
        assert row[0] == bpe.bos_token_id
        assert bpe.decode(learnt(features, i)).lstrip() == answer + "</s>"
        # The labels are the ids, one for one.
        assert features.row("labels", i).tolist() == [IGNORED] * (
            len(row) - len(learnt(features, i))
        ) + learnt(features, i)


def test_padding_is_not_learnt(bpe: PreTrainedTokenizerFast) -> None:
    batch = ENCODING.encode(rows_of(("a", "b"), ("c c c", "d d d d d")), bpe, 200).batch([0, 1])
    padding = batch["attention_mask"] == 0
    assert padding.any()
    assert (batch["labels"][padding] == IGNORED).all()
    assert (batch["input_ids"][padding] == bpe.pad_token_id).all()


def test_a_prompt_that_repeats_the_response(bpe: PreTrainedTokenizerFast) -> None:
    features = ENCODING.encode(rows_of(("say Answer: Paris", "Answer: Paris")), bpe, 200)
    assert bpe.decode(learnt(features, 0)).lstrip() == "Answer: Paris</s>"


# Characters of one to four bytes, which byte-level tokens cut in pieces.
TEXTS = st.text(st.sampled_from("ab Parisé你好—𝄞\n{}"), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(question=TEXTS, answer=TEXTS, ending=st.sampled_from(["", "\n###", "</s>"]))
def test_what_is_learnt_is_the_end_of_the_text(
    bpe: PreTrainedTokenizerFast, question: str, answer: str, ending: str
) -> None:
    encoding = CausalLMEncoding("Q: {question} A: {answer}" + ending, response="answer")
    features = encoding.encode(rows_of((question, answer)), bpe, 500)
    row = features.row("input_ids", 0).tolist()
    prompt_length = len(row) - len(learnt(features, 0))
    text = f"Q: {question} A: {answer}{ending}"
    expected = text if ending == "</s>" else text + "</s>"
    assert bpe.decode(row[1:], clean_up_tokenization_spaces=False) == expected
    # Independent of offsets: bytes before the mask are the prompt's, without the blank at its end.
    assert _size(bpe, row[1:prompt_length]) == len(f"Q: {question} A:".encode())


def _size(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> int:
    # A character of a byte-level token's name is a byte.
    return sum(len(name) for name in tokenizer.convert_ids_to_tokens(ids))


def test_text_after_the_response_is_learnt_and_the_end_comes_once(
    bpe: PreTrainedTokenizerFast,
) -> None:
    encoding = CausalLMEncoding("{question}{answer}<end></s>", response="answer")
    features = encoding.encode(rows_of(("a", "b")), bpe, 100)
    assert bpe.decode(learnt(features, 0)).endswith("b<end></s>")


def test_special_tokens_after_the_text_give_way_to_the_end(
    wordpiece: PreTrainedTokenizerFast,
) -> None:
    wordpiece.eos_token = "[SEP]"
    try:
        features = CausalLMEncoding("{question} {answer}", "answer").encode(
            rows_of(("a", "b")), wordpiece, 9
        )
    finally:
        wordpiece.eos_token = None
    assert wordpiece.decode(features.row("input_ids", 0)) == "[CLS] a b [SEP]"
    assert wordpiece.decode(learnt(features, 0)) == "b [SEP]"


def test_a_long_prompt_loses_its_beginning(bpe: PreTrainedTokenizerFast) -> None:
    rows = rows_of(("why " * 50, "because"))
    whole = ENCODING.encode(rows, bpe, 1000).row("input_ids", 0).tolist()
    features = ENCODING.encode(rows, bpe, 40)
    assert features.row("input_ids", 0).tolist() == whole[:1] + whole[-39:]
    assert bpe.decode(learnt(features, 0)).lstrip() == "because</s>"
    ENCODING.check(features, None)


def test_a_long_response_loses_its_end_and_a_quarter_is_prompt(
    bpe: PreTrainedTokenizerFast,
) -> None:
    rows = rows_of(("why " * 50, "so " * 50))
    whole = ENCODING.encode(rows, bpe, 1000)
    features = ENCODING.encode(rows, bpe, 41)
    assert len(features.row("input_ids", 0)) == 41
    assert len(learnt(features, 0)) == 30
    assert learnt(features, 0) == learnt(whole, 0)[:30]
    assert bpe.eos_token_id not in learnt(features, 0)


def test_a_response_cut_off_is_an_error(bpe: PreTrainedTokenizerFast) -> None:
    encoding = CausalLMEncoding(TEMPLATE, response="answer", truncation="end")
    rows = rows_of(("a", "b"), ("why " * 50, "so"), ("why " * 50, "so"))
    features = encoding.encode(rows, bpe, 40)
    assert features.lengths.max() == 40
    with pytest.raises(
        ValueError,
        match=r"2 of 3 rows have nothing to learn from, the first is row 1: .*`data.max_length` .*encoding.truncation`",
    ):
        encoding.check(features, None)


def test_a_first_token_cannot_be_learnt(bpe: PreTrainedTokenizerFast) -> None:
    # Without a token to begin with, nothing comes before the response that could predict it.
    bare = PreTrainedTokenizerFast(
        tokenizer_object=type(bpe.backend_tokenizer)(bpe.backend_tokenizer.model), eos_token="</s>"
    )
    encoding = CausalLMEncoding("{answer}", response="answer")
    features = encoding.encode(rows_of(("", "b"), ("", "bab")), bare, 1)
    assert features.lengths.tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"2 of 2 rows have nothing to learn from"):
        encoding.check(features, None)
    encoding.check(encoding.encode(rows_of(("", "b")), bare, 2), None)


def test_missing_values(bpe: PreTrainedTokenizerFast) -> None:
    assert ENCODING.prompts(rows_of((None, "b"))) == ["Question: \nAnswer: "]
    with pytest.raises(
        ValueError,
        match=r"`data.encoding.response` names column 'answer', which has no value in 1 of 1",
    ):
        ENCODING.encode(rows_of(("a", None)), bpe, 50)


def test_braces_of_the_template_and_of_values(bpe: PreTrainedTokenizerFast) -> None:
    encoding = CausalLMEncoding("{{json}} {question}: {answer}{{}}", response="answer")
    features = encoding.encode(rows_of(("{x}", "{question}")), bpe, 100)
    assert bpe.decode(features.row("input_ids", 0)) == "<s>{json} {x}: {question}{}</s>"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{question}",
            r"is expected to have \{answer\}, the column of `data.encoding.response`, once and as its last",
        ),
        ("{answer} {question}", "once and as its last"),
        ("{answer} {answer}", "once and as its last"),
        ("{question!r} {answer}", "plain columns"),
        ("{} {answer}", "plain columns"),
        ("{question {answer}", "`data.encoding.template` is"),
        ("no columns", "once and as its last"),
    ],
)
def test_bad_templates(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CausalLMEncoding(template, response="answer")


def test_bad_settings(bpe: PreTrainedTokenizerFast, wordpiece: PreTrainedTokenizerFast) -> None:
    with pytest.raises(
        ValueError,
        match=r"`data.encoding.truncation` is expected to be prompt or end, but got 'left'",
    ):
        CausalLMEncoding(truncation="left")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"needs a tokenizer with an end-of-sequence token"):
        ENCODING.encode(rows_of(("a", "b")), wordpiece, 9)
    with pytest.raises(
        ValueError, match=r"`data.encoding.template \(\{english\}\)` .* got 'english'"
    ):
        CausalLMEncoding().require_columns(rows_of(("a", "b")))
