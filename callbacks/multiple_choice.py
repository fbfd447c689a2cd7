"""Accuracy in multiple choice, by which choice the language model holds for likeliest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lit_fed.backbones import BlackBox, CausalLM
from lit_fed.backbones.likelihood import log_likelihoods, prompt_and_rest
from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation, of_every_model
from lit_fed.data.choices import Question, QuestionForm
from lit_fed.data.row_error import located
from lit_fed.data.sources import Source
from lit_fed.limits import require_instance, require_none_or_at_least
from lit_fed.metrics import MultipleChoiceAccuracy

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class MultipleChoice(PeriodicEvaluation):
    r"""Asks the global model questions with choices and takes the choice that it holds for likeliest.

    A round's row of the history gets ``<name>/accuracy``, by the log-likelihood of a choice's tokens after the
    question, and ``<name>/accuracy_normalized``, by that divided by the choice's characters; both are shares from 0
    to 1 (:class:`~lit_fed.metrics.MultipleChoiceAccuracy`). Guessing gives one over the number of choices. Where
    clients have models of their own, as without a global model and beside that of :class:`~lit_fed.FedSDR`, each of
    them is asked, and the row has ``clients/<name>/accuracy/mean``, ``/std``, ``/min`` and ``/max`` and so on. A client
    whose model is a black box is not asked: it does not say how likely a choice is.

    The settings for some data sets, as they are on the Hugging Face hub:

    ============  =====================================  ===========================  =============
    data          template                               choices                      answer
    ============  =====================================  ===========================  =============
    ARC           ``"Question: {question}\nAnswer: "``   ``choices``                  ``answerKey``
    OpenBookQA    ``"{question_stem} "``                 ``choices``                  ``answerKey``
    COPA          ``"{premise} "``                       ``[choice1, choice2]``       ``label``
    ============  =====================================  ===========================  =============

    Args:
        source: Where the questions are.
        template: The prompt, with columns in braces; the choice follows. A blank at its end is read as the choice's
            beginning, as in training.
        choices: The column of the choices, as a list of texts or as ``text`` and ``label``; or the columns, one for
            each choice.
        answer: The column of the right choice: its position from 0, or its label.
        every_n_rounds: Ask after every so many rounds, beside after each task and the last. None: not.
        name: What the metrics are called.
        batch_size: Choices at once. None: as in evaluations, ``data.eval_batch_size``.
        max_rows: At most how many questions, the first ones. None: all.
        cut: Whether a question that is too long for the model loses its beginning; else it is refused.

    Raises:
        TypeError: If ``source`` is none; when a fit starts, if the model is no language model.
        ValueError: If a number is out of range or the template is not well-formed; when a fit starts, if a column is
            not there, a row has no choices or no right one, or is too long for the model.
    """

    def __init__(
        self,
        source: Source,
        template: str = "{query} ",
        choices: str | list[str] = "choices",
        answer: str = "gold",
        every_n_rounds: int | None = None,
        name: str = "multiple_choice",
        batch_size: int | None = None,
        max_rows: int | None = None,
        cut: bool = False,
    ) -> None:
        super().__init__(every_n_rounds)
        self.source = require_instance("MultipleChoice.source", source, Source)
        self.form = QuestionForm(template, choices, answer, "MultipleChoice")
        self.name = name
        self.batch_size = require_none_or_at_least("MultipleChoice.batch_size", batch_size, 1)
        self.max_rows = require_none_or_at_least("MultipleChoice.max_rows", max_rows, 1)
        self.cut = cut
        self._questions: list[Question] = []

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Read the questions, and say what cannot be asked."""
        if not isinstance(module.backbone, CausalLM):
            raise TypeError(
                "MultipleChoice expects `model.backbone` to be a CausalLM, but got a "
                f"{type(module.backbone).__name__}"
            )
        rows = self.source.load()
        if self.max_rows is not None:
            rows = rows.select(range(min(self.max_rows, len(rows))))
        with located(self.source.place):
            self._questions = self.form.read(rows)
        try:
            self._pairs(module)
        except ValueError as error:
            raise ValueError(
                f"`MultipleChoice.source` has a question that cannot be asked (what is too long can be cut by "
                f"`MultipleChoice.cut`): {error}"
            ) from error

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Ask where it is due."""
        if self.is_due(trainer):
            metrics |= of_every_model(trainer, module, lambda own, _: self._ask(trainer, own))

    def _ask(self, trainer: FederationView, module: FederatedModule) -> dict[str, float]:
        """The two accuracies of the model that the module is now, by name."""
        backbone: Any = module.backbone
        if isinstance(backbone, BlackBox):  # it says nothing of how likely a choice is
            return {}
        if not isinstance(backbone, CausalLM):  # a method whose clients differ may have others
            raise TypeError(
                "MultipleChoice expects every client to have a CausalLM, but one has a "
                f"{type(backbone).__name__}"
            )
        size = self.batch_size or trainer.datamodule.eval_batch_size
        with module.timers("multiple choice"), trainer.fabric.autocast():
            nats = log_likelihoods(backbone, self._pairs(module), size)
        counts = [len(choices) for _, choices, _ in self._questions]
        lengths = [torch.tensor([*map(len, choices)]) for _, choices, _ in self._questions]
        accuracy = MultipleChoiceAccuracy(sync_on_compute=False)  # all processes ask alike
        answers = [right for _, _, right in self._questions]
        accuracy.update(list(nats.split(counts)), lengths, answers)
        values = accuracy.compute()
        return {
            f"{self.name}/accuracy": float(values["choice_accuracy"]) / 100,
            f"{self.name}/accuracy_normalized": float(values["choice_accuracy_normalized"]) / 100,
        }

    def _pairs(self, module: FederatedModule) -> list[tuple[list[int], list[int]]]:
        """The tokens of each prompt and each choice after it."""
        asked = [(prompt, choice) for prompt, choices, _ in self._questions for choice in choices]
        prompts, choices = ([pair[side] for pair in asked] for side in (0, 1))
        backbone: Any = module.backbone
        return prompt_and_rest(backbone, prompts, choices, self.cut)
