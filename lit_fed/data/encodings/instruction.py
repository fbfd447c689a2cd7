"""Instructions and chats in a model's own format, of which the assistant's turns are learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_info

from lit_fed.data.chat_templates import AlpacaTemplate, ChatTemplate
from lit_fed.data.chat_templates.rendering import (
    Rendered,
    Rendering,
    TemplateError,
    template_digest,
    token_id,
)
from lit_fed.data.columns import row_ids
from lit_fed.data.encodings.encoding import Encoding, padding_id
from lit_fed.data.encodings.learnt_tokens import cut_row, end_of_sequence, require_learnt, slices
from lit_fed.data.encodings.prompt_tokens import (
    Piece,
    border,
    following_tokens,
    pieces,
    prompt_tokens,
    special_tokens,
    tokens_before,
    tokens_of_stretches,
)
from lit_fed.data.features import IGNORED, Features
from lit_fed.data.records import Conversation, InstructionRecords, Records
from lit_fed.data.row_error import RowError
from lit_fed.limits import require_instance

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_UNSAID: Final = {"role": "assistant", "content": "?"}


class InstructionEncoding(Encoding):
    """Instructions with their responses, or chats, written by a chat template; the assistant's turns are learnt.

    A turn's prompt is what the template writes before it (``add_generation_prompt``), and its tokens are those from
    which a model generates. Learnt are the turn and the token that ends it, at which generation stops
    (:meth:`stop_ids`); where the template ends the last turn by no token, the end of sequence is added. So what is
    learnt is what is generated, with every tokenizer. What follows the last turn is left out.

    A row that is longer than ``data.max_length`` loses its oldest turns of the user and the assistant; the last of them
    the beginning of the user's, down to a quarter of the length, and only then the end of the response.

    Rows without anything to learn from, whose responses are blank or whose chats have no turn of the assistant, are
    left out where tables are loaded, and how many is said, as it is of chats that go on after the assistant's last.

    Args:
        records: How a row is a conversation. None: instruction, context and response in columns of these names.
        template: How a conversation is written. None: by the chat template of the model's tokenizer or, where it
            has none, by :class:`~lit_fed.data.AlpacaTemplate`, which is said.
        variables: What the template gets beside the conversation, such as ``enable_thinking: false``, or
            ``date_string`` where it would write the day. None: nothing.
        drop: Whether rows without anything to learn from are left out, and of chats what follows the assistant's last
            turn. False: they are an error.
        packing: Whether a training batch's sequences hold several rows each, up to ``data.max_length``; no row sees
            another one, and positions begin anew. ``data.batch_size`` then counts these sequences.
        weight: A column with the weight of each row's loss, at least 0. None: all rows count the same.

    Raises:
        TypeError: If the records or the template are of another class.
        ValueError: If there is a weight while rows are packed.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"instruction": ["2 + 2?", "Why?"], "response": ["4", " "]})
    >>> encoding = InstructionEncoding(InstructionRecords(context=None))
    >>> encoding.answers(rows)
    ['4', None]
    >>> encoding.learnable(rows)[0].tolist()
    [True, False]
    """

    classifies: ClassVar[bool | None] = False
    optional: ClassVar[frozenset[str]] = frozenset({"weight", "records.context", "records.system"})

    def __init__(
        self,
        records: Records | None = None,
        template: ChatTemplate | None = None,
        variables: dict[str, Any] | None = None,
        drop: bool = True,
        packing: bool = False,
        weight: str | None = None,
    ) -> None:
        super().__init__(weight)
        require_instance("data.encoding.records", records, Records)
        require_instance("data.encoding.template", template, ChatTemplate)
        if packing and weight is not None:
            raise ValueError(
                f"`data.encoding.weight` is expected to be null where `data.encoding.packing` is true, since a "
                f"sequence holds several rows, but got {weight!r}"
            )
        self.records = InstructionRecords() if records is None else records
        self.template = template
        self.variables = variables or {}
        self.drop = drop
        self.packing = packing
        self._renderings: WeakKeyDictionary[
            PreTrainedTokenizerBase, tuple[object, str, Rendering]
        ] = WeakKeyDictionary()

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns it reads, by the setting that names them."""
        columns = {f"records.{name}": column for name, column in self.records.columns.items()}
        return columns if self.weight is None else {**columns, "weight": self.weight}

    @property
    def answer_column(self) -> str | None:
        """The column of what is generated; None where it is a turn of a chat."""
        return self.records.response_column

    def answers(self, rows: Dataset) -> list[str | None]:
        """The assistant's last turn of each row; None where it is blank, or somebody else's turn is the last."""
        return [
            one[-1]["content"] if _answered(one) else None
            for one in self.records.conversations(rows)
        ]

    def answered(self, rows: Dataset, like: Dataset) -> tuple[Dataset, frozenset[int]]:
        """Rows of which those without the assistant's last turn have one, see :class:`Encoding`."""
        if self.answer_column is None:
            return self.records.answered(rows)
        return super().answered(rows, like)

    def responses(self, rows: Dataset) -> list[str]:
        """The assistant's last turn of each row, as it is learnt.

        Raises:
            ValueError: If a row has none.
        """
        found = []
        for position, one in enumerate(self.records.conversations(rows)):
            learnt = _learnt(one)
            if not learnt:
                row = int(row_ids(rows)[position])
                raise RowError(
                    f"each row is expected to have a response, but row {row} has none", row
                )
            found.append(learnt[-1]["content"])
        return found

    def with_responses(self, rows: Dataset, texts: Sequence[str]) -> Dataset:
        """The rows with other texts as the assistant's last turns, and all else as it was.

        Args:
            rows: N rows.
            texts: N texts, in the place of :meth:`responses`.
        """
        return self.records.with_responses(rows, texts)

    def with_hints(self, rows: Dataset, hints: Sequence[str]) -> Dataset:
        """The rows with a text more at the end of what the user says before the assistant's last turn that is learnt.

        What follows that turn is left out, so that a prompt of these rows asks for what :meth:`responses` has.

        Args:
            rows: N rows.
            hints: N texts, which begin with the blanks or line breaks between them and what is there.
        """
        return self.records.with_hints(rows, hints)

    def prompts(self, rows: Dataset) -> list[str]:
        """What the user says in each row; where there is more before the assistant's last turn, who says it as well.

        It is for generators that have formats of their own; a model's is written by :meth:`prompt_ids`.
        """
        return [_said(_open(one)) for one in self.records.conversations(rows)]

    def prompt_ids(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """The tokens of each row up to the assistant's last turn: those of training, from which a model generates one.

        Raises:
            RowError: If the template refuses a row.
        """
        asked = [[*_open(one), _UNSAID] for one in self.records.conversations(rows)]
        found: list[list[int]] = []
        for part in slices(len(asked)):
            rendered, typed = self._rendered(rows, asked, part, tokenizer)
            stretches = self._stretches(rendered, typed, tokenizer)
            found += [[token for stretch in one[:-1] for token in stretch] for one in stretches]
        return found

    def blanks(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """The blanks that the template writes before each answer and the prompt has not, see :class:`Encoding`."""
        asked = [[*_open(one), _UNSAID] for one in self.records.conversations(rows)]
        parts = (self._rendered(rows, asked, part, tokenizer)[0] for part in slices(len(asked)))
        return [one.blanks for rendered in parts for one in rendered]

    def learnable(self, rows: Dataset) -> tuple[npt.NDArray[np.bool_], str]:
        """Which rows have a turn of the assistant that is not blank."""
        has = [bool(_learnt(one)) for one in self.records.conversations(rows)]
        return np.asarray(has, bool), "a response, or a turn of the assistant, that is not blank"

    def goes_on(self, rows: Dataset) -> npt.NDArray[np.bool_]:
        """Which rows have turns after the assistant's last one that is not blank."""
        conversations = self.records.conversations(rows)
        return np.asarray([0 < len(_learnt(one)) < len(one) for one in conversations], bool)

    def stop_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The tokens that end a turn of the assistant, as they are learnt."""
        ends = self._written_by(tokenizer)[1].ends()
        return sorted(token_id(tokenizer, token) for token in ends)

    def chat_template(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """The template that writes the rows where it is not the tokenizer's own, see :class:`Encoding`.

        What it gets beside the conversation stands at its beginning, where nothing else is given for it.
        """
        if self.template is None and tokenizer.chat_template is not None:
            return None
        text = self._written_by(tokenizer)[0]
        given = "".join(
            f"{{% set {name} = {name} if {name} is defined else {value!r} %}}"
            for name, value in self._given(tokenizer).items()
        )
        return given + text

    def digest(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """A digest of the template's text and of what the records write around their columns."""
        written = {**self.variables, **self.records.wording}
        return template_digest(self._written_by(tokenizer)[0], written)

    def require_values(self, rows: Dataset) -> None:
        """Raise where a value is missing or a chat is none, see :class:`Encoding`."""
        super().require_values(rows)
        if self.drop:
            self.records.conversations(rows)
            return
        has, lack = self.learnable(rows)
        if not has.all():
            row = int(row_ids(rows)[int((~has).argmax())])
            raise RowError(
                f"each row is expected to have {lack}, but {int((~has).sum())} of {len(rows)} have none, the first is "
                f"row {row}; `data.encoding.drop: true` leaves them out",
                row,
            )
        more = self.goes_on(rows)
        if more.any():
            row = int(row_ids(rows)[int(more.argmax())])
            raise RowError(
                f"each chat is expected to end with a turn of the assistant that is not blank, but "
                f"{int(more.sum())} of {len(rows)} go on after it, the first is row {row}; `data.encoding.drop: true` "
                "leaves out what follows",
                row,
            )

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Features:
        """Tokenise rows, see :class:`Encoding`. ``labels`` has a value for each token, -100 outside what is learnt.

        Raises:
            ValueError: If the tokenizer gives no offsets or has no end-of-sequence token, or if the template refuses
                a row.
        """
        self.require_columns(rows)
        end_of_sequence(tokenizer)
        conversations = [_learnt(one) or one for one in self.records.conversations(rows)]
        ids: list[list[int]] = []
        labels: list[list[int]] = []
        cut = 0
        for part in slices(len(conversations)):
            rendered, typed = self._rendered(rows, conversations, part, tokenizer)
            written = self._stretches(rendered, typed, tokenizer)
            for position, stretches in enumerate(written, part.start):
                if _length(stretches) > max_length:
                    cut += 1
                    stretches = self._shortened(
                        rows, conversations[position], position, stretches, tokenizer, max_length
                    )
                ids.append([token for stretch in stretches for token in stretch])
                labels.append(
                    [
                        token if number % 2 else IGNORED
                        for number, stretch in enumerate(stretches)
                        for token in stretch
                    ]
                )
        return Features(
            {"input_ids": ids, "labels": labels},
            {"index": row_ids(rows), **self.weights(rows)},
            {"input_ids": padding_id(tokenizer), "labels": IGNORED},
            cut,
        )

    def check(self, features: Features, num_labels: int | None) -> None:
        """Raise where a row has nothing to learn from, see :class:`Encoding`."""
        require_learnt(features, "their responses are blank, or `data.max_length` is too small")

    # ---------------------------------------------------------------- inside

    def _written_by(self, tokenizer: PreTrainedTokenizerBase) -> tuple[str, Rendering]:
        """The template's text for a tokenizer, and what writes conversations by it.

        Raises:
            ValueError: If the tokenizer lacks tokens that the template needs.
        """
        state = (tokenizer.chat_template, len(tokenizer), tokenizer.eos_token_id)
        known = self._renderings.get(tokenizer)
        if known is None or known[0] != state:
            if self.template is not None:
                self.template.require_tokens(tokenizer)
                text = self.template.text
            elif tokenizer.chat_template is not None:
                text = tokenizer.get_chat_template()
            else:
                rank_zero_info(
                    f"`data.encoding.template` is AlpacaTemplate, since the tokenizer {tokenizer.name_or_path} has no "
                    f"chat template of its own"
                )
                text = AlpacaTemplate().text
            known = state, text, Rendering(tokenizer, text, self._given(tokenizer))
            self._renderings[tokenizer] = known
        return known[1:]

    def _given(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """What a template gets beside the conversation."""
        start = "".join(tokenizer.convert_ids_to_tokens(tokens_before(tokenizer)))
        return {"text_start": start, **self.variables}

    def _rendered(
        self,
        rows: Dataset,
        conversations: Sequence[Conversation],
        part: slice,
        tokenizer: PreTrainedTokenizerBase,
    ) -> tuple[list[Rendered], dict[str, str]]:
        """Some rows' conversations as texts, with the row's number where one cannot be written."""
        rendering = self._written_by(tokenizer)[1]
        try:
            return rendering(conversations[part])
        except TemplateError as error:
            row = int(row_ids(rows)[part.start + error.position])
            raise RowError(f"{error}, in row {row}", row) from None

    def _stretches(
        self,
        rendered: Sequence[Rendered],
        typed: Mapping[str, str],
        tokenizer: PreTrainedTokenizerBase,
    ) -> list[list[list[int]]]:
        """The tokens of each row's stretches: what is read, what is learnt, what is read, and so on."""
        found: list[list[list[int]]] = [[] for _ in rendered]
        texts = [_texts(one) for one in rendered]
        meant = special_tokens(tokenizer)
        for number in range(max(map(len, texts), default=0)):
            having = [i for i, stretches in enumerate(texts) if len(stretches) > number]
            before = [_since_special("".join(texts[i][:number]), meant) for i in having]
            rests = [texts[i][number] for i in having]
            for i, own in zip(having, _tokens(tokenizer, before, rests, typed, meant), strict=True):
                found[i].append(own)
        for one, stretches in zip(rendered, found, strict=True):
            if one.turns and one.turns[-1].ended is None:
                stretches[-1].append(end_of_sequence(tokenizer))
        return found

    def _shortened(
        self,
        rows: Dataset,
        conversation: Conversation,
        position: int,
        stretches: list[list[int]],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
    ) -> list[list[int]]:
        """The stretches of a row that is too long without its oldest turns, or cut."""
        one = rows.select([position])
        rendered, _ = self._rendered(one, [conversation], slice(0, 1), tokenizer)
        while _length(stretches) > max_length and len(stretches) > 2:
            turns = [i for i, message in enumerate(conversation) if _speaks(message)]
            # what comes before the first user's turn comes in addition, so that it may take another round
            fits = [n for n in range(1, len(turns)) if _length(stretches[2 * n :]) <= max_length]
            first = turns[min([*fits, len(turns) - 1]) - 1] + 1
            system = [message for message in conversation[:first] if message["role"] == "system"]
            rest = conversation[first:]
            if rest[0]["role"] != "user":
                # several turns of the assistant's follow one of the user's, which stays
                users = [message for message in conversation[:first] if message["role"] == "user"]
                rest = [*users[-1:], *rest]
            conversation = system + rest
            rendered, typed = self._rendered(one, [conversation], slice(0, 1), tokenizer)
            (stretches,) = self._stretches(rendered, typed, tokenizer)
        if _length(stretches) <= max_length or len(stretches) == 1:
            return [stretch[:max_length] for stretch in stretches]
        head, tail = stretches
        header = rendered[0].text[: rendered[0].header]
        begins = prompt_tokens(tokenizer, [border(header)[0]], add_special_tokens=False)[0]
        starts = int(head[:1] == [tokenizer.bos_token_id])
        kept = len(begins) if len(begins) <= max_length // 4 else starts
        return list(cut_row(head, tail, kept, max_length))


def _texts(one: Rendered) -> list[str]:
    """What is read and what is learnt of a text in turn, up to the end of the last turn."""
    places = [0, *(place for turn in one.turns for place in (turn.start, turn.end))]
    return [one.text[a:b] for a, b in pairwise(places)] or [one.text]


def _tokens(
    tokenizer: PreTrainedTokenizerBase,
    before: Sequence[str],
    rests: Sequence[str],
    typed: Mapping[str, str],
    meant: Mapping[str, int],
) -> list[list[int]]:
    """The tokens of texts that follow others, or that begin a row.

    Whether special tokens were typed in a text does not change those of the texts before it.
    """
    found: dict[int, list[int]] = {}
    holders = set(typed)
    pairs = list(zip(before, rests, strict=True))
    plain = [i for i, (a, b) in enumerate(pairs) if holders.isdisjoint(a + b)]
    first = [i for i in plain if not before[i]]
    heads = prompt_tokens(tokenizer, [rests[i] for i in first], add_special_tokens=False)
    later = [i for i in plain if before[i]]
    tails = following_tokens(tokenizer, [before[i] for i in later], [rests[i] for i in later])
    found |= dict(zip(first, heads, strict=True)) | dict(zip(later, tails, strict=True))
    for i in set(range(len(pairs))) - set(plain):
        stretches = [_pieces(text, typed, meant) for text in pairs[i] if text]
        found[i] = tokens_of_stretches(tokenizer, stretches)[-1]
    return [found[i] for i in range(len(pairs))]


def _pieces(text: str, typed: Mapping[str, str], meant: Mapping[str, int]) -> list[Piece]:
    """A stretch between the special tokens that the template has written; those that were typed are text."""
    found = pieces([(text, False)], meant)
    return [
        piece
        if isinstance(piece, int)
        else "".join(typed.get(character, character) for character in piece)
        for piece in found
    ]


def _since_special(text: str, meant: Mapping[str, int]) -> str:
    """The end of a text from its last special token on, before which nothing matters for how a text is cut."""
    return text[max([0, *(text.rfind(token) for token in meant)]) :]


def _length(stretches: Sequence[Sequence[int]]) -> int:
    return sum(map(len, stretches))


def _speaks(message: Mapping[str, str]) -> bool:
    return message["role"] == "assistant" and bool(message["content"].strip())


def _answered(conversation: Conversation) -> bool:
    return bool(conversation) and _speaks(conversation[-1])


def _learnt(conversation: Conversation) -> Conversation:
    """A conversation up to the last turn of the assistant that is not blank; nothing if there is none."""
    last = max((i for i, m in enumerate(conversation) if _speaks(m)), default=-1)
    return conversation[: last + 1]


def _open(conversation: Conversation) -> Conversation:
    """A conversation up to where the assistant's last turn comes, or is to come."""
    last = conversation[-1]["role"] == "assistant" if conversation else False
    return conversation[:-1] if last else conversation


def _said(conversation: Conversation) -> str:
    if len(conversation) == 1:
        return conversation[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in conversation)
