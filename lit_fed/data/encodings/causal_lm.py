"""Texts of a template, of which the response is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from lit_fed.data.columns import row_ids
from lit_fed.data.encodings.encoding import Encoding, column_texts, padding_id, require_tokens
from lit_fed.data.features import IGNORED, Features

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_ROWS_AT_ONCE = 1000


class CausalLMEncoding(Encoding):
    r"""A template with columns in braces; the loss is taken on the response and the end of sequence.

    Which tokens are the response follows from the place of its characters in the text and the
    tokenizer's offsets, so it holds for every tokenizer, and when the prompt repeats the response.
    A token that joins the end of the prompt with the beginning of the response is learnt. Text
    after the response is learnt as its end, as is the end-of-sequence token unless the row is cut.

    Args:
        template: The text, with columns in braces (``{{`` and ``}}`` for braces themselves).
            Missing values are empty. It ends with the response, or with text after it.
        response: The column of what is learnt.
        truncation: How rows longer than ``data.max_length`` are cut. ``prompt``: at the beginning
            of the prompt, down to a quarter of the length, and only then at the end of the
            response. ``end``: at the end.
        weight: A column with the weight of each row's loss, at least 0. None: all rows count the
            same.

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
        if not tokenizer.is_fast:
            raise ValueError(
                f"`data.encoding` needs a fast tokenizer, which gives offsets, but the model's is "
                f"a {type(tokenizer).__name__}"
            )
        if not isinstance(tokenizer.eos_token_id, int):
            raise ValueError(
                "`data.encoding` needs a tokenizer with an end-of-sequence token, but the model's "
                "has none"
            )
        prompts = self.prompts(rows)
        responses = column_texts(rows, self.response, "data.encoding.response")
        ids: list[list[int]] = []
        labels: list[list[int]] = []
        for first in range(0, len(prompts), _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            texts = [
                prompt + response + self._ending
                for prompt, response in zip(prompts[part], responses[part], strict=True)
            ]
            encoded: Mapping[str, Any] = tokenizer(
                texts,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
            for prompt, row, offsets, special in zip(
                prompts[part],
                encoded["input_ids"],
                encoded["offset_mapping"],
                encoded["special_tokens_mask"],
                strict=True,
            ):
                head, tail = _split(row, offsets, special, len(prompt))
                if not tail or tail[-1] != tokenizer.eos_token_id:
                    tail = [*tail, tokenizer.eos_token_id]
                bos = special.index(0) if 0 in special else 0
                head, tail = self._cut(head, tail, bos, max_length)
                ids.append(head + tail)
                labels.append([IGNORED] * len(head) + tail)
        return Features(
            {"input_ids": ids, "labels": labels},
            {"index": row_ids(rows), **self.weights(rows)},
            {"input_ids": padding_id(tokenizer), "labels": IGNORED},
        )

    def check(self, features: Features, num_labels: int | None) -> None:
        """Raise where a row has nothing to learn from, see :class:`Encoding`."""
        require_tokens(features)
        learnt = (features.tokens["labels"] != IGNORED).astype(np.int64)
        # A model predicts from the second token on.
        learnt[features.offsets[:-1]] = 0
        counts: npt.NDArray[np.int64] = np.add.reduceat(learnt, features.offsets[:-1])
        if nothing := int((counts == 0).sum()):
            row = int(features.rows["index"][int((counts == 0).argmax())])
            raise ValueError(
                f"{nothing} of {len(features)} rows have nothing to learn from, the first is row "
                f"{row}: their response is cut off; raise `data.max_length` or set "
                f"`data.encoding.truncation` to prompt"
            )

    def _cut(
        self, head: list[int], tail: list[int], bos: int, max_length: int
    ) -> tuple[list[int], list[int]]:
        """Cut the prompt and the response to `max_length`.

        The prompt keeps its first `bos` tokens.
        """
        if len(head) + len(tail) <= max_length:
            return head, tail
        if self.truncation == "end":
            head = head[:max_length]
            return head, tail[: max_length - len(head)]
        room = max(max_length - bos, 0)
        kept = min(len(head) - bos, max(room - len(tail), room // 4))
        return head[:bos] + head[len(head) - kept :], tail[: room - kept]


def _parse(template: str, response: str) -> tuple[list[tuple[str, str]], str]:
    """Take a template apart.

    Returns:
        Pairs of text and the column after it, the last of them the response, and the text after
        that.
    """
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"`data.encoding.template` is not well-formed: {error}, in {template!r}"
        ) from None
    parts: list[tuple[str, str]] = []
    literals = ""
    for literal, name, spec, conversion in pieces:
        literals += literal
        if name is None:
            continue
        if not name or spec or conversion:
            raise ValueError(
                f"`data.encoding.template` is expected to have plain columns such as {{text}} in "
                f"braces, but got {template!r}"
            )
        parts.append((literals, name))
        literals = ""
    names = [name for _, name in parts]
    if names.count(response) != 1 or names[-1] != response:
        raise ValueError(
            f"`data.encoding.template` is expected to have {{{response}}}, the column of "
            f"`data.encoding.response`, once and as its last, but got {template!r}"
        )
    return parts, literals


def _split(
    row: list[int], offsets: Sequence[tuple[int, int]], special: list[int], start: int
) -> tuple[list[int], list[int]]:
    """A row's tokens before the response, which begins at character `start`, and those from it on.

    Special tokens that the tokenizer added after the text are left out.
    """
    stop = len(row)
    while stop and special[stop - 1]:
        stop -= 1
    first = next(
        (i for i in range(stop) if not special[i] and offsets[i][1] > max(start, offsets[i][0])),
        stop,
    )
    return row[:first], row[first:stop]
