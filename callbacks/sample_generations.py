"""A few prompts and what the model answers to them, round by round, in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.backbones import Sampling
from lit_fed.callbacks.harmless_text import code_block
from lit_fed.callbacks.published_text import PublishedText
from lit_fed.federation.generation import GenerationSettings, UnansweredError
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class SampleGenerations(PublishedText):
    """Shows a few prompts' answers in TensorBoard's text tab, as ``generations``.

    The answers are the global model's or, where the method has none, the first client's. They are generated after a
    round and kept in its checkpoint until they are published. Where the client is a black box that fails, a warning
    tells so, and the round has none.

    Args:
        prompts: The prompts, as the model gets them. None: those of validation rows (of test rows, where there are
            none), whose expected answers are shown beside them.
        rows: How many rows, where there are no prompts.
        every_n_rounds: Rounds between two of them.
        max_new_tokens: Tokens at most of an answer. None: 128, or as many as the model has room for.
        sampling: How each token is chosen.
        stop: Texts that end an answer, and are cut off it. None: there are none.

    Raises:
        TypeError: If ``prompts`` or ``stop`` is no list of texts.
        ValueError: If a number is out of range or ``prompts`` is empty; when a fit starts, if there are no rows, or
            the model cannot answer them.
    """

    tag = "generations"

    def __init__(
        self,
        prompts: list[str] | None = None,
        rows: int = 4,
        every_n_rounds: int = 1,
        max_new_tokens: int | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 (it is frozen)
        stop: list[str] | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if prompts is not None and (
            isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts)
        ):
            raise TypeError(
                f"`{name}.prompts` is expected to be a list of texts, but got {prompts!r:.80}"
            )
        if prompts is not None and not prompts:
            raise ValueError(
                f"`{name}.prompts` is expected to have one or more, or to be null for those of validation rows, but is "
                "empty"
            )
        self.prompts = prompts
        self.rows = require_at_least(f"{name}.rows", rows, 1)
        self.every_n_rounds = require_at_least(f"{name}.every_n_rounds", every_n_rounds, 1)
        self.settings = GenerationSettings(max_new_tokens, sampling, stop or ())
        self._asked: Any = None
        self._shown: Sequence[tuple[str, str | None]] = ()

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Choose the rows; what cannot be answered is said now."""
        super().on_fit_start(trainer, module)
        if self.prompts is not None:
            self._asked, self._shown = self.prompts, [(prompt, None) for prompt in self.prompts]
        else:
            self._asked = self._rows_of(trainer)
        trainer.check_generation(self._asked, self.settings)
        if self.prompts is None:
            encoding = trainer.datamodule.encoding
            answers = encoding.answers(self._asked) or [None] * len(self._asked)
            self._shown = list(zip(encoding.prompts(self._asked), answers, strict=True))

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Generate where it is due."""
        if not self._is_due(trainer):
            return
        client = None if module.has_global_model else 0
        try:
            answers = trainer.generate(self._asked, self.settings, client)
        except UnansweredError as error:
            rank_zero_warn(str(error))
            return
        self.take(trainer.current_round, self._markdown(answers))

    def _is_due(self, trainer: FederationView) -> bool:
        finished = trainer.current_round
        return finished % self.every_n_rounds == 0 or trainer.is_last_round

    def _rows_of(self, trainer: FederationView) -> Any:
        data = trainer.datamodule
        rows = (
            data.validation
            if data.validation is not None
            else next(iter(data.tests.values()), None)
        )
        if rows is None or not len(rows):
            raise ValueError(
                f"`{type(self).__name__}.prompts` is expected where `data.validation` and `data.test` have no rows, "
                "but is null"
            )
        return rows.select(range(min(self.rows, len(rows))))

    def _markdown(self, answers: Sequence[str]) -> str:
        """Prompt, answer and what was expected, each as it is, without Markdown of its own."""
        parts = []
        for (prompt, expected), answer in zip(self._shown, answers, strict=True):
            told = {"prompt": prompt, "answer": answer}
            if expected is not None:
                told["expected"] = expected
            parts.append(
                "\n\n".join(f"**{name}**\n\n{code_block(text)}" for name, text in told.items())
            )
        return "\n\n---\n\n".join(parts)
