"""Texts of a template, of which the response is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from lit_fed.data.braces import columns_in
from lit_fed.data.columns import in_memory_with_texts, row_ids
from lit_fed.data.encodings.encoding import Encoding, column_texts, padding_id
from lit_fed.data.encodings.learnt_tokens import cut_row, end_of_sequence, require_learnt, slices
from lit_fed.data.encodings.prompt_tokens import (
    border,
    following_tokens,
    pieces,
    prompt_tokens,
    special_tokens,
    tokens_before,
    tokens_of_pieces,
)
from lit_fed.data.features import IGNORED, Features

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class CausalLMEncoding(Encoding):
    r"""A template with columns in braces; the loss is taken on the response and the end of sequence.

    The prompt's tokens are those of its text alone, without blanks at its end, as a model gets them to generate a
    response; these blanks begin the response. So what is learnt is what is generated, with every tokenizer.
    Text after the response is learnt as its end, as is the end-of-sequence token unless the row is cut.

    Args:
        template: The text, with columns in braces (``{{`` and ``}}`` for braces themselves).
            Missing values are empty. It ends with the response, or with text after it.
        response: The column of what is learnt.
        truncation: How rows longer than ``data.max_length`` are cut. ``prompt``: at the beginning
            of the prompt, down to a quarter of the length, and only then at the end of the
            response. ``end``: at the end.
        weight: A column with the weight of each row's loss, at least 0. None: all rows count the
            same.
        split_special_tokens: Whether special tokens such as ``</s>`` or ``<|im_end|>`` that stand in a column are
            plain text; those of the template are always read as special tokens. False: those of columns too, for
            instance where a column holds conversations in a model's own format.

    >>> encoding = CausalLMEncoding("Question: {question}\nAnswer: {answer}", response="answer")
    >>> from datasets import Dataset
    >>> encoding.prompts(Dataset.from_dict({"question": ["2 + 2?"], "answer": ["4"]}))
    ['Question: 2 + 2?\nAnswer: ']
    """

    classifies: ClassVar[bool | None] = False

    def __init__(
        self,
        template: str = "{english}\n{chinese}",
        response: str = "chinese",
        truncation: Literal["prompt", "end"] = "prompt",
        weight: str | None = None,
        split_special_tokens: bool = True,
    ) -> None:
        super().__init__(weight)
        if truncation not in ("prompt", "end"):
            raise ValueError(
                f"`data.encoding.truncation` is expected to be prompt or end, but got "
                f"{truncation!r}"
            )
        self.template = template
        self.response = response
        self.truncation = truncation
        self.split_special_tokens = split_special_tokens
        self._parts, self._ending = _parse(template, response)

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns it reads, by the setting that names them."""
        names = dict.fromkeys(name for _, name in self._parts)
        # One setting names several columns: the key says which, and the setting.
        columns = {f"template ({{{name}}})": name for name in names if name != self.response}
        columns["response"] = self.response
        return columns if self.weight is None else {**columns, "weight": self.weight}

    @property
    def answer_column(self) -> str:
        """The column of what is generated."""
        return self.response

    def prompts(self, rows: Dataset) -> list[str]:
        """The text of each row up to its response, from which a model generates one.

        Raises:
            ValueError: If a value is no text.
        """
        prompts = [""] * len(rows)
        for literal, name in self._parts[:-1]:
            texts = column_texts(rows, name, "data.encoding.template", missing="")
            prompts = [
                f"{prompt}{literal}{text}" for prompt, text in zip(prompts, texts, strict=True)
            ]
        return [prompt + self._parts[-1][0] for prompt in prompts]

    def prompt_ids(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """The tokens of each row up to its response: those of training, from which a model generates one."""
        texts = [border(prompt)[0] for prompt in self.prompts(rows)]
        meant = self._meant(tokenizer)
        ids: list[list[int]] = []
        for part in slices(len(texts)):
            ids += prompt_tokens(tokenizer, texts[part], self.split_special_tokens and not meant)
        for row in self._with_typed_tokens(rows, meant):
            ids[row] = self._typed_ids(rows, row, tokenizer, meant)[0]
        return ids

    def with_hints(self, rows: Dataset, hints: Sequence[str]) -> Dataset:
        """The rows with a text more at the end of the last column before the response; see :class:`Encoding`.

        Where that column is empty, the text stands there alone.

        Raises:
            ValueError: If the template has no column before the response.
        """
        if len(self._parts) < 2:
            raise ValueError(
                f"`data.encoding.template` is expected to have a column before the response, whose text a hint can "
                f"follow, but got {self.template!r}"
            )
        column = self._parts[-2][1]
        texts = column_texts(rows, column, "data.encoding.template", missing="")
        joined = [
            f"{text}{hint}" if text.strip() else hint.lstrip()
            for text, hint in zip(texts, hints, strict=True)
        ]
        return in_memory_with_texts(rows, column, joined)

    def _response_ids(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """The tokens of each row's response and of what the template has after it."""
        prompts = [border(prompt) for prompt in self.prompts(rows)]
        responses = column_texts(rows, self.response, "data.encoding.response")
        meant = self._meant(tokenizer)
        ids: list[list[int]] = []
        for part in slices(len(prompts)):
            ids += following_tokens(
                tokenizer,
                [text for text, _ in prompts[part]],
                [
                    blanks + response + self._ending
                    for (_, blanks), response in zip(prompts[part], responses[part], strict=True)
                ],
                self.split_special_tokens and not meant,
            )
        for row in self._with_typed_tokens(rows, meant):
            ids[row] = self._typed_ids(rows, row, tokenizer, meant)[1]
        return ids

    def _meant(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
        """The special tokens that the template has, with their ids; none where all are read as such."""
        if not self.split_special_tokens:
            return {}
        known = special_tokens(tokenizer)
        literals = [*(literal for literal, _ in self._parts), self._ending]
        if not any(token in literal for token in known for literal in literals):
            return {}
        return known

    def _with_typed_tokens(self, rows: Dataset, meant: Mapping[str, int]) -> list[int]:
        """The positions of rows whose columns hold a special token, while the template has some that are meant."""
        if not meant:
            return []
        found = set()
        for _, column in self._parts:
            texts = column_texts(rows, column, "data.encoding.template", missing="")
            found |= {i for i, text in enumerate(texts) if any(token in text for token in meant)}
        return sorted(found)

    def _typed_ids(
        self, rows: Dataset, row: int, tokenizer: PreTrainedTokenizerBase, meant: Mapping[str, int]
    ) -> tuple[list[int], list[int]]:
        """The tokens of one row's prompt and response, between the template's special tokens."""
        one = rows.select([row])
        segments: list[tuple[str, bool]] = []
        for literal, column in self._parts:
            (text,) = column_texts(one, column, "data.encoding.template", missing="")
            segments += [(literal, False), (text, True)]
        prompt = pieces(segments[:-1], meant)
        text, blanks = border(str(prompt[-1]))
        rest = pieces([(blanks, True), segments[-1], (self._ending, False)], meant)
        return tokens_of_pieces(tokenizer, [*prompt[:-1], text], rest)

    def require_values(self, rows: Dataset) -> None:
        """Raise where a response or a weight is missing, see :class:`Encoding`."""
        super().require_values(rows)
        self.prompts(rows)
        column_texts(rows, self.response, "data.encoding.response")

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Features:
        """Tokenise rows, see :class:`Encoding`. ``labels`` has a value for each token, -100 in the prompt.

        Raises:
            ValueError: If the tokenizer gives no offsets or has no end-of-sequence token.
        """
        self.require_columns(rows)
        eos = end_of_sequence(tokenizer)
        heads = self.prompt_ids(rows, tokenizer)
        tails = self._response_ids(rows, tokenizer)
        begins = len(tokens_before(tokenizer))
        ids: list[list[int]] = []
        labels: list[list[int]] = []
        cut = 0
        for prompt, response in zip(heads, tails, strict=True):
            whole = response
            if not whole or whole[-1] != eos:
                whole = [*whole, eos]
            cut += len(prompt) + len(whole) > max_length
            head, tail = cut_row(prompt, whole, begins, max_length, self.truncation == "end")
            ids.append(head + tail)
            labels.append([IGNORED] * len(head) + tail)
        return Features(
            {"input_ids": ids, "labels": labels},
            {"index": row_ids(rows), **self.weights(rows)},
            {"input_ids": padding_id(tokenizer), "labels": IGNORED},
            cut,
        )

    def check(self, features: Features, num_labels: int | None) -> None:
        """Raise where a row has nothing to learn from, see :class:`Encoding`."""
        require_learnt(
            features,
            "their response is cut off; raise `data.max_length` or set `data.encoding.truncation` to prompt",
        )


def _parse(template: str, response: str) -> tuple[list[tuple[str, str]], str]:
    """Take a template apart.

    Returns:
        Pairs of text and the column after it, the last of them the response, and the text after
        that.
    """
    parts, ending = columns_in(template, "data.encoding.template")
    names = [name for _, name in parts]
    if names.count(response) != 1 or names[-1] != response:
        raise ValueError(
            f"`data.encoding.template` is expected to have {{{response}}}, the column of "
            f"`data.encoding.response`, once and as its last, but got {template!r}"
        )
    return parts, ending
