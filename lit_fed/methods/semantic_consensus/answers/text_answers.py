"""Text answers: what a language model writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor

from lit_fed.backbones import CausalLM
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data.columns import row_ids, select_rows
from lit_fed.limits import require_at_least
from lit_fed.losses import own_mean
from lit_fed.methods.semantic_consensus.answers.public_answers import PublicAnswers
from lit_fed.methods.semantic_consensus.bounding import bounded
from lit_fed.methods.semantic_consensus.exchange import Answers, Texts
from lit_fed.methods.teachers import silent

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule


class TextAnswers(PublicAnswers):
    """A client answers the text that its model writes greedily, cut at a number of characters.

    The limit is in characters, since as many tokens are texts of other lengths with another tokenizer. How sure it is
    of an answer is the geometric mean of its tokens' probabilities, the end included, which takes one pass more.

    Args:
        max_characters: Characters of an answer at most; what is longer is cut, by the server as well.
        max_new_tokens: Tokens that a model writes at most.
        batch_size: Prompts at once.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> TextAnswers(max_characters=5).cut("  nine of them")
        'nine'
    """

    generates: ClassVar[bool] = True

    def __init__(
        self, max_characters: int = 200, max_new_tokens: int = 64, batch_size: int = 32
    ) -> None:
        setting = "model.answers"
        self.max_characters = require_at_least(f"{setting}.max_characters", max_characters, 1)
        self.max_new_tokens = require_at_least(f"{setting}.max_new_tokens", max_new_tokens, 1)
        self.batch_size = require_at_least(f"{setting}.batch_size", batch_size, 1)

    def check(self, module: FederatedModule, public: Dataset) -> None:
        """Refuse models that write no texts, and prompts that leave no room for one; see the base class."""
        encoding = module.data.encoding
        prompts = encoding.prompts(public)
        if prompts is None:
            raise ConfigurationError(
                f"`model.answers` TextAnswers expects `data.encoding` to have prompts, such as CausalLMEncoding, but "
                f"got {type(encoding).__name__}"
            )
        for name, backbone in module.backbones.items():
            if not isinstance(backbone, CausalLM):
                raise ConfigurationError(
                    f"`model.answers` TextAnswers expects `model.{name}` to be one that generates, such as CausalLM, "
                    f"but got {type(backbone).__name__}; of labels there is LabelAnswers"
                )
            try:
                asked = encoding.prompt_ids(public, backbone.tokenizer)
                backbone.check_prompts(asked or prompts, self.max_new_tokens)
            except ValueError as error:
                raise ConfigurationError(f"`model.answers.max_new_tokens`: {error}") from error

    @torch.no_grad()
    def answer(self, module: FederatedModule, rows: Dataset, with_confidence: bool) -> Answers:
        """The continuation of each row's prompt."""
        # checked before training
        encoding, generator = module.data.encoding, cast("CausalLM", module.backbone)
        asked: Sequence[Any] = encoding.prompts(rows) or []
        if (ids := encoding.prompt_ids(rows, module.tokenizer)) is not None:
            asked = ids
        found = generator.continuations(
            asked,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            blanks=encoding.blanks(rows, module.tokenizer),
        )
        texts = tuple(self.cut(one.text) for one in found)
        return Answers(texts, self._sure(module, rows, texts) if with_confidence else None)

    def cut(self, text: str) -> str | None:
        """An answer as it may be, see :func:`bounded`; None of an empty one."""
        return bounded(text, self.max_characters) or None

    def valid(self, module: FederatedModule, texts: Texts) -> Texts:
        """All of them, cut."""
        return tuple(None if text is None else self.cut(text) for text in texts)

    def references(self, module: FederatedModule, public: Dataset) -> Texts:
        """The rows' own responses, cut as an answer is."""
        return tuple(self.cut(text) for text in module.data.encoding.responses(public))

    def learnable(
        self, module: FederatedModule, rows: Dataset, texts: Sequence[str]
    ) -> Dataset | None:
        """The rows with the labels as their responses, as far as the encoding can write them."""
        if not len(rows):
            return None
        written = module.data.encoding.with_responses(rows, texts)
        reads = module.data.encodable(written, module.tokenizer)
        if all(reads):
            return written
        kept = [place for place, reads_it in enumerate(reads) if reads_it]
        return select_rows(written, kept) if kept else None

    def _sure(self, module: FederatedModule, rows: Dataset, texts: Texts) -> Tensor:
        """The geometric mean of the probabilities of each answer's tokens, [M]; 0 where there is no answer."""
        sure = torch.zeros(len(rows))
        said = [place for place, text in enumerate(texts) if text is not None]
        written = [str(texts[place]) for place in said]
        answered = self.learnable(module, select_rows(rows, said), written)
        if answered is None:
            return sure
        place_of = {row: place for place, row in enumerate(row_ids(rows).tolist())}
        with silent(module.backbone):
            for batch in module.batches(answered):
                prediction: Any = module(batch)
                targets = prediction.targets.masked_fill(~prediction.mask, 0).unsqueeze(-1)
                logs = prediction.logits.float().log_softmax(-1).gather(-1, targets).squeeze(-1)
                for row, own, mask in zip(
                    batch["index"].tolist(), logs, prediction.mask, strict=True
                ):
                    sure[place_of[row]] = own_mean(own, mask).exp().clamp(max=1).cpu()
        return sure
