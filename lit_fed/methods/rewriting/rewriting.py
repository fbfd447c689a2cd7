"""Rewriting of responses: the model says in its own words what the reference says."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.utilities import rank_zero_info

from lit_fed.backbones import CausalLM
from lit_fed.backbones.anatomy import context_length
from lit_fed.backbones.generation.continuation import Continuation
from lit_fed.backbones.generation.sampling import Sampling
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data.braces import columns_in
from lit_fed.data.columns import require_column, row_ids, written_values
from lit_fed.data.encodings.prompt_tokens import border, prompt_tokens
from lit_fed.limits import (
    require_at_least,
    require_instance,
    require_none_or_at_least,
    require_path,
    require_positive,
)
from lit_fed.methods.rewriting.filters import Candidate, LeakFilter, RewritingFilter
from lit_fed.methods.rewriting.self_distillation import SelfDistillation
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule

HINT: Final = (
    "\n\nReference answer: {reference}\n\n"
    "Take the reference answer as a guide and write your own response. Give the response alone."
)
"""What a prompt has more where the model is to rewrite; in our own words, after Yang et al. (2024)."""

_ROWS, _RESPONSES, _REASONS, _TOKENS = "rows", "responses", "reasons", "tokens"
_OF = "of"
"""The digests of the references that have been rewritten."""

_EMPTY, _LONG, _TEMPLATE = "empty", "long", "template"
_LEAST_TOKENS, _MOST_TOKENS = 32, 512


@dataclass(frozen=True)
class Rewritten:
    """What has become of a row's response.

    Args:
        prompt: The prompt that the response answers.
        reference: The response that the row had.
        response: The one that is trained on.
        reason: Why that is the reference, such as ``leak``; None where it is what the model has written.
    """

    prompt: str
    reference: str
    response: str
    reason: str | None


class Rewriting(SelfDistillation):
    r"""Clients rewrite their responses by the model that they have downloaded, and train on what it writes.

    .. math:: \tilde y \sim f_\theta(\cdot \mid x, y), \qquad L = -\log f_{\theta_k}(\tilde y \mid x)

    θ is the initial global model; of a client that comes later or, with ``refresh_every``, of all, the global model
    of that moment. The reference y stands in the prompt of the rewriting alone, never in that of the training. Of a
    chat it is the assistant's last turn alone, and its turns before are learnt as they are.
    Yang et al., "Self-Distillation Bridges Distribution Gap in Language Model Fine-Tuning", 2024,
    https://arxiv.org/abs/2402.13669, as Wang et al., "FedSDR: Federated Self-Distillation with Rectification", 2026,
    https://arxiv.org/abs/2605.18028, use it in a federation.

    Where the filter takes a rewriting back, y takes its place; so it does, whatever the filter, where the rewriting is
    empty (reason ``empty``), its prompt leaves less room than the reference takes (``long``), or the encoding cannot
    write it, as where a chat template takes a part of it off (``template``). A client's metrics of each round have
    ``rewriting/tokens``, how many the model has written, and ``rewriting/replaced``, the share of rows with y. How many
    there are of each reason, and the seconds, are said when the client has rewritten; :attr:`reasons` are all that
    there may be. A row whose response has become another one than that which was rewritten, as by an
    :class:`~lit_fed.Attachment` from some round on, is trained on as it is.

    Args:
        filter: Where the reference takes the rewriting's place. None: :class:`LeakFilter`.
        hint: What the prompt has more, at the end of what the user says, with ``{reference}`` and, if wanted, columns
            of the row in braces. Several by the values of a column, such as one for each language, as a mapping.
        hint_by: The column whose value says which of several hints a row has. None: there is one hint.
        refresh_every: Every how many rounds all clients rewrite again. None: once.
        greedy: Take the likeliest token each time, instead of sampling.
        temperature: Of the sampling, T > 0.
        top_p: Sample from the likeliest tokens that have this mass.
        top_k: Sample from so many tokens at most. 0: from all.
        max_new_tokens: Tokens of a rewriting at most. None: for each row twice those of its reference, rounded up to a
            power of two from 32 to 512. Either is cut to the room that the row's prompt leaves.
        batch_size: Rows at once. What is written does not depend on it, but for rounding.
        cache: A folder that keeps what is written by all that decides it, the model's weights among it, a batch at a
            time: a run that is broken off while clients rewrite writes nothing again, nor does another run of the
            same model, rows and seed. None: nothing is kept but what whole clients have written.

    Raises:
        TypeError: If ``filter`` is no filter.
        ValueError: If a number is out of range, a hint lacks ``{reference}``, or there are several and no column to
            choose by.

    Example:
        >>> Rewriting(hint="\nGuide: {reference}").hint
        '\nGuide: {reference}'
    """

    def __init__(
        self,
        filter: RewritingFilter | None = None,
        hint: str | dict[str, str] = HINT,
        hint_by: str | None = None,
        refresh_every: int | None = None,
        greedy: bool = False,
        temperature: float = 0.95,
        top_p: float = 0.7,
        top_k: int = 50,
        max_new_tokens: int | None = None,
        batch_size: int = 32,
        cache: str | None = None,
    ) -> None:
        super().__init__(refresh_every)
        require_instance("model.rewriting.filter", filter, RewritingFilter)
        self.filter = LeakFilter() if filter is None else filter
        self.hint = hint
        self.hint_by = hint_by
        if isinstance(hint, dict) == (hint_by is None):
            raise ValueError(
                "`model.rewriting.hint_by` is expected to name a column where `model.rewriting.hint` has several, and "
                f"to be null where it is one, but got {hint_by!r} with {hint!r:.80}"
            )
        self._hints_by_value = hint if isinstance(hint, dict) else {"": hint}
        self._columns = _columns(self._hints_by_value.values())
        self.greedy = greedy
        self.temperature = require_positive("model.rewriting.temperature", temperature)
        if not 0 < top_p <= 1:
            raise ValueError(
                f"`model.rewriting.top_p` is expected to be above 0 and at most 1, but got {top_p!r}"
            )
        self.top_p = top_p
        self.top_k = require_at_least("model.rewriting.top_k", top_k, 0)
        self.max_new_tokens = require_none_or_at_least(
            "model.rewriting.max_new_tokens", max_new_tokens, 1
        )
        self.batch_size = require_at_least("model.rewriting.batch_size", batch_size, 1)
        # by another name than the argument's: what is written does not depend on it, nor does a run's identity
        self._kept_in = require_path("model.rewriting.cache", cache)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a reference may have taken its rewriting's place."""
        return (_EMPTY, _LONG, _TEMPLATE, *self.filter.reasons)

    def check(self, module: FederatedModule) -> None:
        """Say before training that the model cannot write, or that the rows have no response; see the base class.

        Raises:
            ConfigurationError: If so.
        """
        if not isinstance(module.backbone, CausalLM):
            raise ConfigurationError(
                f"`model.rewriting` Rewriting expects `model.backbone` to be one that generates, such as CausalLM, but "
                f"got {type(module.backbone).__name__}; for one that classifies there is "
                "lit_fed.methods.rewriting.SoftTargets"
            )
        encoding = module.data.encoding
        try:
            for client in module.data.clients:
                for column in self._columns:
                    require_column(client.rows, column, "model.rewriting.hint")
                self._require_hints(client.rows)
                none = client.rows.select([])
                encoding.responses(none)
                encoding.with_hints(none, [])
        except ValueError as error:
            raise ConfigurationError(f"`model.rewriting` cannot rewrite: {error}") from error

    def prepare(self, module: FederatedModule, rows: Dataset) -> Payload:
        """Client: rewrite its responses; see the base class.

        Returns:
            ``rows`` [N], their ids; ``responses`` and ``reasons``, N strings each, the latter empty where the response
            is a rewriting; ``of``, N digests of the references; ``tokens``, how many the model has written.
        """
        began = time.perf_counter()
        encoding = module.data.encoding
        references = encoding.responses(rows)
        # with an empty hint as well: what follows the turn that is learnt is no part of its prompt
        prompts = encoding.prompts(encoding.with_hints(rows, [""] * len(rows)))
        if prompts is None:
            raise ConfigurationError("`data.encoding` is expected to have prompts")
        hinted = encoding.with_hints(rows, self._hints(rows, references))
        written = self._written(module, hinted, references)
        requests = self._hints(rows, [""] * len(rows))
        responses, reasons = [], []
        for i, one in enumerate(written):
            text = "" if one is None else one.text
            if one is None:
                reason: str | None = _LONG
            elif not text:
                reason = _EMPTY
            else:
                candidate = Candidate(
                    text, references[i], rows[i], prompts[i], requests[i], one.ended
                )
                reason = self.filter.reason(candidate)
            responses.append(text if reason is None else references[i])
            reasons.append(reason or "")
        rewritten = encoding.with_responses(rows, responses)
        for i, reads in enumerate(module.data.encodable(rewritten, module.tokenizer)):
            if not reads and not reasons[i]:
                responses[i], reasons[i] = references[i], _TEMPLATE
        tokens = sum(one.tokens for one in written if one is not None)
        prepared = Payload(
            {_ROWS: torch.from_numpy(row_ids(rows).copy()), _TOKENS: torch.tensor(tokens)},
            {_RESPONSES: responses, _REASONS: reasons, _OF: [_digest(one) for one in references]},
        )
        took = time.perf_counter() - began
        name = module.client.id if module.client else "the server"
        rank_zero_info(
            f"{name!r} has rewritten {self._said({name: prepared})} in {took:.1f} s, {tokens / max(took, 1e-9):,.0f} "
            "tokens a second"
        )
        return prepared

    def check_prepared(self, prepared: Mapping[str, Payload]) -> None:
        """Tell how much all have rewritten, and refuse to train where the model has written nothing at all.

        Raises:
            ConfigurationError: If of no client a rewriting is there and can be written by the encoding.
        """
        reasons = [reason for one in prepared.values() for reason in one.strings.get(_REASONS, ())]
        if reasons and all(reason in (_EMPTY, _LONG, _TEMPLATE) for reason in reasons):
            empty, long, unwritten = map(reasons.count, (_EMPTY, _LONG, _TEMPLATE))
            raise ConfigurationError(
                f"`model.rewriting` is expected to give texts, but of the {len(reasons)} rows of all clients {empty} "
                f"rewritings are empty, {unwritten} cannot be written by `data.encoding`, and {long} prompts leave no "
                f"room for one: see whether the model answers "
                f"`model.rewriting.hint` in the words of `data.encoding`"
            )
        if reasons:
            rank_zero_info(f"in all {len(prepared)} clients have rewritten {self._said(prepared)}")

    def rows(self, module: FederatedModule, rows: Dataset, prepared: Payload) -> Dataset:
        """Client: its rows with the rewritten responses; see the class, and the base class.

        Raises:
            RuntimeError: If a row has not been rewritten.
        """
        strings = (prepared.strings[name] for name in (_RESPONSES, _OF))
        known = dict(zip(prepared.tensors[_ROWS].tolist(), zip(*strings, strict=True), strict=True))
        ids = row_ids(rows).tolist()
        if missing := [row for row in ids if row not in known]:
            raise RuntimeError(
                f"all rows of a client are expected to have been rewritten, but row {missing[0]} has not"
            )
        encoding, texts = module.data.encoding, []
        for row, own in zip(ids, encoding.responses(rows), strict=True):
            text, of = known[row]
            texts.append(text if _digest(own) == of else own)
        return encoding.with_responses(rows, texts)

    def rewritten(
        self, module: FederatedModule, rows: Dataset, prepared: Payload
    ) -> list[Rewritten]:
        """Client: what has become of its rows, one beside the other, to look at.

        Args:
            module: The method as the client.
            rows: The client's rows, or some of them.
            prepared: What :meth:`prepare` gave.
        """
        encoding = module.data.encoding
        prompts = encoding.prompts(encoding.with_hints(rows, [""] * len(rows))) or []
        responses = encoding.responses(self.rows(module, rows, prepared))
        reasons = dict(
            zip(prepared.tensors[_ROWS].tolist(), prepared.strings[_REASONS], strict=True)
        )
        return [
            Rewritten(prompt, reference, response, reasons[row] or None)
            for prompt, reference, response, row in zip(
                prompts, encoding.responses(rows), responses, row_ids(rows).tolist(), strict=True
            )
        ]

    def metrics(self, prepared: Payload) -> dict[str, float]:
        """Client: tokens written, and the share of responses that are references; see the class."""
        reasons = prepared.strings[_REASONS]
        return {
            "rewriting/tokens": float(prepared.tensors[_TOKENS]),
            "rewriting/replaced": sum(map(bool, reasons)) / len(reasons),
        }

    def _hints(self, rows: Dataset, references: Sequence[str]) -> list[str]:
        columns = {
            name: [text or "" for text in written_values(rows, name, "model.rewriting.hint")]
            for name in self._columns
        }
        return [
            self._hints_by_value[value].format(
                reference=references[i], **{name: texts[i] for name, texts in columns.items()}
            )
            for i, value in enumerate(self._hint_values(rows))
        ]

    def _hint_values(self, rows: Dataset) -> list[str]:
        """Which hint each row has."""
        if self.hint_by is None:
            return [""] * len(rows)
        found = written_values(rows, self.hint_by, "model.rewriting.hint_by")
        return [value or "" for value in found]

    def _require_hints(self, rows: Dataset) -> None:
        if self.hint_by is not None:
            require_column(rows, self.hint_by, "model.rewriting.hint_by")
        if unknown := set(self._hint_values(rows)) - self._hints_by_value.keys():
            raise ValueError(
                f"`model.rewriting.hint` is expected to have a hint for every value of column {self.hint_by!r}, but "
                f"has none for {sorted(unknown)[0]!r}"
            )

    def _written(
        self, module: FederatedModule, rows: Dataset, references: Sequence[str]
    ) -> list[Continuation | None]:
        """What the model answers to each row; None where there is no room for it."""
        backbone, encoding = module.backbone, module.data.encoding
        prompts = encoding.prompts(rows) or []
        ids = encoding.prompt_ids(rows, module.tokenizer)
        if ids is None:
            ids = prompt_tokens(module.tokenizer, [border(prompt)[0] for prompt in prompts])
        room = context_length(backbone.model)
        limits = [
            self._limit(
                len(own), None if room is None else room - backbone.virtual_tokens - len(row)
            )
            for own, row in zip(_tokenised(module, references), ids, strict=True)
        ]
        keys = [str(row) for row in row_ids(rows).tolist()]
        sampling = self._sampling()
        answers: list[Continuation | None] = [None] * len(ids)
        for limit in sorted(set(limits) - {0}):
            asked = [i for i, own in enumerate(limits) if own == limit]
            found = self._generated(
                backbone, [ids[i] for i in asked], [keys[i] for i in asked], limit, sampling
            )
            for i, one in zip(asked, found, strict=True):
                text = one.text.removeprefix(border(prompts[i])[1]).strip()
                answers[i] = one._replace(text=text)
        return answers

    def _limit(self, reference: int, left: int | None) -> int:
        """Tokens of a rewriting at most, by those of its reference and of the room that its prompt leaves; 0 for long.

        By powers of two, so that rows of like limits are generated together.
        """
        limit = self.max_new_tokens
        if limit is None:
            wanted = max(2 * reference, _LEAST_TOKENS)
            limit = min(2 ** (wanted - 1).bit_length(), _MOST_TOKENS)
        if left is None or limit <= left:
            return limit
        return left if left >= max(min(reference, limit), 1) else 0

    def _sampling(self) -> Sampling:
        """How tokens are drawn: by a seed of the client and the round, by which torch is seeded."""
        if self.greedy:
            return Sampling()
        seed = int(torch.randint(2**31, ()))
        return Sampling(self.temperature, self.top_k or None, self.top_p, seed)

    def _generated(
        self,
        backbone: Any,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        limit: int,
        sampling: Sampling,
    ) -> list[Continuation]:
        """The model's continuations of prompts, each drawn by the sampling's seed and the row's id."""
        found: list[Continuation] = backbone.continuations(
            prompts,
            max_new_tokens=limit,
            batch_size=self.batch_size,
            sampling=sampling,
            keys=keys,
            cache=self._kept_in,
        )
        return found

    def _said(self, prepared: Mapping[str, Payload]) -> str:
        """How many rows have been rewritten and how many are references, in words."""
        reasons = [reason for one in prepared.values() for reason in one.strings[_REASONS]]
        tokens = sum(int(one.tensors[_TOKENS]) for one in prepared.values())
        found = {r: reasons.count(r) for r in self.reasons if r in reasons}
        replaced = sum(found.values())
        why = ", ".join(f"{reason} {count}" for reason, count in found.items())
        return (
            f"{len(reasons)} rows with {tokens:,} tokens, {replaced} of them back to the reference"
            + (f" ({why})" if why else "")
        )


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _tokenised(module: FederatedModule, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    ids: list[list[int]] = module.tokenizer(list(texts), add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return ids


def _columns(hints: Iterable[str]) -> tuple[str, ...]:
    """The columns that hints name beside the reference.

    Raises:
        ValueError: If one is not well-formed or lacks the reference.
    """
    return tuple(dict.fromkeys(name for hint in hints for name in _columns_of(hint)))


def _columns_of(hint: str) -> list[str]:
    asks = "{reference} and else plain columns in braces"
    names = [name for _, name in columns_in(hint, "model.rewriting.hint", asks)[0]]
    if "reference" not in names or not all(map(str.isidentifier, names)):
        raise ValueError(f"`model.rewriting.hint` is expected to have {asks}, but got {hint!r}")
    return [name for name in names if name != "reference"]
