"""Instructions and chats as tokens, compared with transformers' own chat templating."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import lit_fed.backbones.embedded
from lit_fed.backbones import CausalLM
from lit_fed.backbones.generation.continuation import Continuation
from lit_fed.data import (
    AlpacaTemplate,
    ChatMLTemplate,
    ChatRecords,
    ChatTemplate,
    DialogueTemplate,
    InstructionEncoding,
    InstructionRecords,
)
from lit_fed.data.features import IGNORED
from lit_fed.federation.generation import GenerationSettings, generated_texts
from tests.data.encodings import chat_tokenizers

EMBEDDED = Path(lit_fed.backbones.embedded.__file__).parent / "decoder"
KINDS = {
    "smollm": chat_tokenizers.smollm(),
    "gpt2": chat_tokenizers.gpt2(),
    "llama": chat_tokenizers.llama(),
    "llama-first": chat_tokenizers.llama(legacy=False),
    "t5": chat_tokenizers.t5(),
    "phi": chat_tokenizers.phi(),
    "embedded": AutoTokenizer.from_pretrained(EMBEDDED),
}
TEMPLATED = [kind for kind, tokenizer in KINDS.items() if tokenizer.chat_template]
ENDS = {
    "smollm": "<|im_end|>",
    "gpt2": "<|endoftext|>",
    "llama": "</s>",
    "llama-first": "</s>",
    "t5": "</s>",
    "phi": "<|end|>",
    "embedded": "<|end|>",
}
CHATS = InstructionEncoding(ChatRecords())
# Blanks, line ends, digits, and what stands for a turn in some template.
TEXTS = st.lists(
    st.sampled_from(
        ["a", "Paris", " ", "12", "\n", "(", ":", "é", "你", "</s>", "<|im_end|>", "[INST]"]
    ),
    min_size=1,
    max_size=6,
).map("".join)


def chat(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    turns = [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)
    ]
    return turns if system is None else [{"role": "system", "content": system}, *turns]


def rows_of(*chats: list[dict[str, str]]) -> Dataset:
    return Dataset.from_dict({"messages": list(chats)})


def encoded(
    tokenizer: PreTrainedTokenizerFast,
    one: list[dict[str, str]],
    encoding: InstructionEncoding = CHATS,
    max_length: int = 2000,
) -> tuple[list[int], list[int]]:
    features = encoding.encode(rows_of(one), tokenizer, max_length)
    return features.row("input_ids", 0).tolist(), features.row("labels", 0).tolist()


def learnt(ids: list[int], labels: list[int]) -> list[int]:
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    return [label for label in labels if label != IGNORED]


@pytest.mark.parametrize("kind", TEMPLATED)
@settings(max_examples=8, deadline=None)
@given(texts=st.lists(TEXTS, min_size=2, max_size=6))
def test_tokens_and_what_is_learnt_are_those_of_transformers(kind: str, texts: list[str]) -> None:
    tokenizer = KINDS[kind]
    one = chat(*texts[: len(texts) // 2 * 2])
    if any(not turn["content"].strip() for turn in one):
        return
    special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
    typed = any(token in turn["content"] for token in special for turn in one)
    if kind == "llama-first" and typed:
        return  # a piece between typed tokens is cut as a text of its own there
    ids, labels = encoded(tokenizer, one)
    told = tokenizer.apply_chat_template(one, sanitize_control_tokens=True)["input_ids"]
    assert told[: len(ids)] == ids
    if typed:
        return
    masked = tokenizer.apply_chat_template(one, return_assistant_tokens_mask=True, return_dict=True)
    mask = masked["assistant_masks"][: len(ids)]
    # a token over the border of what is said and what is read is not in transformers' mask
    assert learnt(ids, labels) == [t for t, m in zip(ids, mask, strict=True) if m]
    assert not any(masked["assistant_masks"][len(ids) :])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(texts=st.lists(TEXTS, min_size=4, max_size=4), other=TEXTS)
def test_generation_starts_from_the_tokens_of_training_and_ends_with_the_turn(
    kind: str, texts: list[str], other: str
) -> None:
    tokenizer = KINDS[kind]
    if any(not text.strip() for text in [*texts, other]):
        return
    one = chat(*texts)
    ids, labels = encoded(tokenizer, one)
    (end,) = CHATS.stop_ids(tokenizer)
    assert tokenizer.convert_ids_to_tokens(end) == ENDS[kind]
    start = len(ids) - next(i for i, label in enumerate(reversed(labels)) if label == IGNORED)
    # whatever the last turn is, and where there is none yet
    for same in (one, [*one[:-1], {"role": "assistant", "content": other}], one[:-1]):
        assert CHATS.prompt_ids(rows_of(same), tokenizer) == [ids[:start]]
    first = labels.index(next(label for label in labels if label != IGNORED))
    assert CHATS.prompt_ids(rows_of(one[:2]), tokenizer) == [ids[:first]]
    # both turns end with the one token, and no typed one is among them
    said = learnt(ids, labels)
    assert said.count(end) == 2
    assert said[-1] == end
    if kind != "t5":
        answers = tokenizer.decode(said).split(ENDS[kind])
        assert [answer.replace(" ", "") for answer in answers[:-1]] == [
            text.strip().replace(" ", "") if kind.startswith("llama") else text.replace(" ", "")
            for text in texts[1::2]
        ] or any(ENDS[kind] in text for text in texts)


def test_nothing_comes_twice_at_the_beginning() -> None:
    for kind in ("llama", "llama-first"):
        tokenizer = KINDS[kind]
        for template in (None, DialogueTemplate()):
            ids, _ = encoded(
                tokenizer, chat("a", "b"), InstructionEncoding(ChatRecords(), template)
            )
            assert ids[0] == tokenizer.bos_token_id
            assert ids.count(tokenizer.bos_token_id) == 1
    # where the tokenizer puts none before a text, no template of ours does
    ids, _ = encoded(KINDS["gpt2"], chat("a", "b"))
    assert KINDS["gpt2"].bos_token_id not in ids[:-1]


class Says(CausalLM):
    """A model that says what it has learnt."""

    def __init__(self, said: str) -> None:
        torch.nn.Module.__init__(self)
        self.said = said

    def continuations(
        self, prompts: Any, *_: Any, blanks: Any = None, **__: Any
    ) -> list[Continuation]:
        return [Continuation(self.said.removeprefix(before), 1, True) for before in blanks]


def test_blanks_that_a_template_writes_before_an_answer_are_not_the_answers() -> None:
    tokenizer = KINDS["gpt2"]
    rows = rows_of(chat("a", "b"))
    spaced = "{% for m in messages %}{{ m.role + ':  ' + m.content + eos_token }}{% endfor %}"
    asking = spaced + "{% if add_generation_prompt %}{{ 'assistant:  ' }}{% endif %}"
    for template, blanks in (
        (DialogueTemplate(), " "),
        (AlpacaTemplate(), ""),
        (ChatTemplate(asking), "  "),
    ):
        encoding = InstructionEncoding(ChatRecords(), template)
        assert encoding.blanks(rows, tokenizer) == [blanks]
        said = tokenizer.decode(learnt(*encoded(tokenizer, chat("a", "b"), encoding))[:-1])
        assert said == f"{blanks}b"

        evaluation: Any = SimpleNamespace(
            resident=SimpleNamespace(
                module=SimpleNamespace(backbone=Says(said), tokenizer=tokenizer)
            ),
            fabric=SimpleNamespace(autocast=nullcontext, is_global_zero=True),
            data=SimpleNamespace(encoding=encoding, eval_batch_size=1),
        )
        assert generated_texts(evaluation, rows, GenerationSettings()) == ["b"]


def test_records_of_instructions() -> None:
    tokenizer = KINDS["smollm"]
    table = {"instruction": ["Who?", "2 + 2?"], "input": ["Ann ran.", ""], "output": ["Ann", "4"]}
    records = InstructionRecords(context="input", response="output")
    encoding = InstructionEncoding(records)
    rows = Dataset.from_dict(table)
    features = encoding.encode(rows, tokenizer, 200)
    for i, asked in enumerate(("Who?\n\nAnn ran.", "2 + 2?")):
        one = chat(asked, table["output"][i])
        assert features.row("input_ids", i).tolist() == encoded(tokenizer, one)[0]
    assert encoding.answer_column == "output"
    assert encoding.answers(rows) == ["Ann", "4"]
    assert encoding.prompts(rows) == ["Who?\n\nAnn ran.", "2 + 2?"]
    assert encoding.columns["records.context"] == "input"
    other = InstructionEncoding(InstructionRecords(with_context="{context} {instruction}"))
    assert other.digest(tokenizer) != encoding.digest(tokenizer)
    assert InstructionEncoding(InstructionRecords()).digest(tokenizer) == encoding.digest(tokenizer)


def test_sharegpt() -> None:
    turns = [
        {"from": "gpt", "value": "Welcome."},
        {"from": "system", "value": " "},
        {"from": "human", "value": "a"},
        {"from": "gpt", "value": "b"},
        {"from": "human", "value": "bye"},
    ]
    encoding = InstructionEncoding(ChatRecords("conversations", role="from", content="value"))
    rows = Dataset.from_dict({"conversations": [turns]})
    features = encoding.encode(rows, KINDS["smollm"], 200)
    # what is not an answer to anybody, and what nobody answers, is left out
    assert features.row("input_ids", 0).tolist() == encoded(KINDS["smollm"], chat("a", "b"))[0]
    assert encoding.answers(rows) == [None]


def test_a_blank_turn_is_read_and_not_learnt() -> None:
    ids, labels = encoded(KINDS["smollm"], chat("a", " ", "b", "c"))
    said = KINDS["smollm"].decode(learnt(ids, labels))
    assert said == "c<|im_end|>"


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_chat_loses_its_oldest_turns(kind: str) -> None:
    tokenizer = KINDS[kind]
    system = None if kind.startswith("llama") else "Be short."
    texts = ["why " * 30, "so", "how", "thus", "when", "now"]
    whole, _ = encoded(tokenizer, chat(*texts, system=system))
    rest, labels = encoded(tokenizer, chat(*texts[2:], system=system))
    features = CHATS.encode(
        rows_of(chat(*texts, system=system), chat("a", "b")), tokenizer, len(whole) - 1
    )
    assert features.cut == 1
    assert features.row("input_ids", 0).tolist() == rest
    assert features.row("labels", 0).tolist() == labels


def test_a_long_question_loses_its_beginning_and_the_response_is_kept() -> None:
    tokenizer = KINDS["smollm"]
    one = chat("a", "b", "why " * 200, "so it is")
    whole, labels = encoded(tokenizer, one[2:])
    ids, left = encoded(tokenizer, one, max_length=240)
    begins = "<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n<|im_start|>user\n"
    assert len(ids) == 240
    assert tokenizer.decode(ids).startswith(begins + " why")
    assert ids[100:] == whole[-140:]
    assert learnt(ids, left) == learnt(whole, labels)
    # where even that has no room, the response loses its end
    ids, left = encoded(tokenizer, chat("why " * 80, "so " * 80), max_length=40)
    assert len(ids) == 40
    assert len(learnt(ids, left)) == 30
    CHATS.check(CHATS.encode(rows_of(one), tokenizer, 8), None)


def test_templates_by_name_text_and_file(tmp_path: Path) -> None:
    tokenizer = KINDS["smollm"]
    text = ChatMLTemplate().text
    (tmp_path / "mine.jinja").write_text(text)
    for template in (
        ChatMLTemplate(),
        ChatTemplate(text),
        ChatTemplate(str(tmp_path / "mine.jinja")),
    ):
        encoding = InstructionEncoding(ChatRecords(), template)
        ids, _ = encoded(tokenizer, chat("a", "b"), encoding)
        assert tokenizer.decode(ids) == (
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>"
        )
        same = InstructionEncoding(ChatRecords(), ChatMLTemplate())
        assert encoding.digest(tokenizer) == same.digest(tokenizer)
    assert encoding.digest(tokenizer) != CHATS.digest(tokenizer)
    with pytest.raises(FileNotFoundError, match=r"template.text` .* there is no 'other.jinja'"):
        ChatTemplate("other.jinja")
    with pytest.raises(
        ValueError, match=r"ChatMLTemplate needs the special token '<\|im_start\|>'"
    ):
        InstructionEncoding(ChatRecords(), ChatMLTemplate()).stop_ids(KINDS["gpt2"])


THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{% endif %}"
)
"""As Qwen3's with `enable_thinking` false: an empty thought stands in the prompt and before the last turn alone."""


def test_an_earlier_turn_may_lack_what_is_generated_before_it() -> None:
    tokenizer = KINDS["smollm"]
    encoding = InstructionEncoding(ChatRecords(), ChatTemplate(THINKING))
    assert encoding.stop_ids(tokenizer) == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    ids, labels = encoded(tokenizer, chat("a", "b", "c", "d"), encoding)
    assert tokenizer.decode(learnt(ids, labels)) == "b<|im_end|>d<|im_end|>"
    # the last turn begins where it is generated from
    (prompt,) = encoding.prompt_ids(rows_of(chat("a", "b", "c", "d")), tokenizer)
    assert ids[: len(prompt)] == prompt
    assert tokenizer.decode(prompt).endswith("</think>\n\n")


def test_variables_of_a_template() -> None:
    text = "{{ day }}" + ChatMLTemplate().text
    tokenizer = KINDS["smollm"]
    encodings = [
        InstructionEncoding(ChatRecords(), ChatTemplate(text), variables={"day": day})
        for day in ("Monday ", "Friday ")
    ]
    ids, _ = encoded(tokenizer, chat("a", "b"), encodings[0])
    assert tokenizer.decode(ids).startswith("Monday <|im_start|>user")
    assert encodings[0].digest(tokenizer) != encodings[1].digest(tokenizer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
            r"expected to write the response, .* but leaves out turn 1, in row 0",
        ),
        (
            "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
            "expected to write what is said as it is said, but changes turn 1, in row 0",
        ),
        (
            "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
            r"expected to write a conversation as it writes the beginning .* in row 0",
        ),
        ("{% for m in messages %}{{ m.content }}", r"cannot write the conversation: .*in row 0"),
        ("{{ messages[7].content }}", "cannot write the conversation: .*in row 0"),
    ],
)
def test_bad_templates(text: str, message: str) -> None:
    encoding = InstructionEncoding(ChatRecords(), ChatTemplate(text))
    with pytest.raises(ValueError, match="`data.encoding.template` (is )?" + message):
        encoding.encode(rows_of(chat("a", "b")), KINDS["smollm"], 200)


def test_a_conversation_that_the_template_refuses_is_named() -> None:
    rows = rows_of(chat("a", "b"), [chat("a")[0], *chat("a", "b")])
    with pytest.raises(ValueError, match=r"roles must alternate .*, in row 1$"):
        CHATS.encode(rows, KINDS["llama"], 200)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"role": "narrator", "content": "a"}], r"roles` .* turn 0 of row 0 has 'narrator'"),
        (
            [{"role": "user", "text": "a"}],
            r"content` .* turn 0 of row 0 has no 'content'; its keys",
        ),
        ([{"role": "user", "content": 3}], r"content` .* turn 0 of row 0 has int 3"),
        (
            "a",
            r"column` is expected to name a column of lists of turns, but 'messages' has str 'a'",
        ),
    ],
)
def test_bad_chats(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CHATS.require_values(Dataset.from_dict({"messages": [value]}))


def test_bad_records() -> None:
    rows = Dataset.from_dict(
        {"instruction": ["a", " "], "context": ["", ""], "response": ["b", "c"]}
    )
    with pytest.raises(
        ValueError, match=r"records.instruction` .* no value in 1 of 2 rows, the first is row 1"
    ):
        InstructionEncoding().require_values(rows)
    with pytest.raises(ValueError, match=r"records.context` .* got 'input'.* set it to null"):
        InstructionEncoding(InstructionRecords(context="input")).require_columns(rows)
    with pytest.raises(
        ValueError, match=r"records.with_context` .* \{instruction\} and \{context\}"
    ):
        InstructionRecords(with_context="{instruction}")
    with pytest.raises(ValueError, match=r"without_context` is not well-formed"):
        InstructionRecords(without_context="{instruction")
    with pytest.raises(ValueError, match=r"roles` are expected to mean .* one means 'robot'"):
        ChatRecords(roles={"a": "user", "b": "robot"})
    with pytest.raises(ValueError, match=r"which role is the assistant"):
        ChatRecords(roles={"a": "user"})
    with pytest.raises(TypeError, match=r"`data.encoding.records`"):
        InstructionEncoding(InstructionRecords)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError,
        match=r"each row is expected to have a response.*1 of 2 have none, the first is row 1",
    ):
        InstructionEncoding(drop=False).require_values(
            Dataset.from_dict(
                {"instruction": ["a", "b"], "context": ["", ""], "response": ["b", " "]}
            )
        )


@pytest.mark.parametrize("kind", ["smollm", "gpt2", "embedded"])
def test_a_long_chat_keeps_a_question_before_turns_that_nobody_asked_for(kind: str) -> None:
    tokenizer = KINDS[kind]
    told = [
        {"role": "user", "content": "why"},
        {"role": "assistant", "content": "so " * 40},
        {"role": "assistant", "content": "the end"},
    ]
    expected, labels = encoded(tokenizer, [told[0], told[2]])
    assert encoded(tokenizer, told, max_length=len(expected)) == (expected, labels)
    # a blank turn of the assistant's stays behind a question
    blank = [told[0], told[1], {"role": "assistant", "content": ""}, *chat("when", "now")]
    ids, _ = encoded(tokenizer, blank, max_length=len(encoded(tokenizer, blank)[0]) - 1)
    assert tokenizer.decode(ids).count("why") == 1


@pytest.mark.parametrize("template", [AlpacaTemplate(), DialogueTemplate()])
def test_several_turns_of_the_assistant_are_learnt_each(template: ChatTemplate) -> None:
    tokenizer = KINDS["gpt2"]
    several = [*chat("why", "so"), {"role": "assistant", "content": "thus"}]
    ids, labels = encoded(tokenizer, several, InstructionEncoding(ChatRecords(), template=template))
    said = tokenizer.decode(learnt(ids, labels))
    assert "so" in said
    assert "thus" in said
    assert "why" not in said
