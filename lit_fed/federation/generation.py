"""Texts that the resident module, whoever it acts as, generates for rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lightning.fabric.utilities.rank_zero import rank_zero_warn

from lit_fed.backbones import CausalLM, Sampling, TextGenerator
from lit_fed.backbones.generation.settings import require_stop_strings
from lit_fed.client import Client
from lit_fed.federation.client.evaluation_loop import EvaluationLoop
from lit_fed.limits import require_none_or_at_least

if TYPE_CHECKING:
    from datasets import Dataset


class UnansweredError(RuntimeError):
    """A black box has failed as a whole: there is no answer to any prompt of a call."""


@dataclass(frozen=True)
class GenerationSettings:
    """How texts are generated; see :meth:`~lit_fed.backbones.CausalLM.generate`.

    Args:
        max_new_tokens: Tokens at most of a text. None: 128, or as many as the model has room for.
        sampling: How each token is chosen.
        stop: Texts that end a generated text, and are cut off it.
        cache: A folder in which generated texts are kept. None: they are not.
        progress: Whether a bar shows how many texts are done, and the tokens a second.

    Raises:
        TypeError: If ``stop`` is no list of texts.
        ValueError: If ``max_new_tokens`` is below 1, or a text of ``stop`` is empty.
    """

    max_new_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stop: Sequence[str] = ()
    cache: str | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        require_none_or_at_least("max_new_tokens", self.max_new_tokens, 1)
        require_stop_strings(self.stop)


def generated_texts(
    evaluation: EvaluationLoop, rows: Dataset | Sequence[str], settings: GenerationSettings
) -> list[str]:
    """What the resident module answers to each row or prompt; nothing where it has no answer, which a warning tells.

    Args:
        evaluation: Has the module, its device and its precision, and the encoding of rows.
        rows: Rows of the data module's kind, or prompts as the model gets them.
        settings: How texts are generated.

    Raises:
        TypeError: If the module's model does not generate.
        UnansweredError: If it is a black box that raises something, by which a client loses its figures, and no more.
        ValueError: If there is no room, or a setting is not for this model.
    """
    # importing transformers takes a second, which only who generates should wait
    from lit_fed.backbones.generation.stop_strings import cut_at

    backbone = _generator(evaluation, settings)
    prompts, tokens = _prompts(evaluation, rows)
    with evaluation.fabric.autocast():
        if not isinstance(backbone, CausalLM):
            said = _asked(backbone, prompts, evaluation.resident.module.client)
            return [cut_at(answer, settings.stop) for answer in _with_empty_ones(backbone, said)]
        told = backbone.continuations(
            tokens,
            max_new_tokens=settings.max_new_tokens,
            batch_size=evaluation.data.eval_batch_size,
            sampling=settings.sampling,
            stop=settings.stop,
            blanks=_blanks(evaluation, rows),
            cache=settings.cache,
            progress=settings.progress and bool(evaluation.fabric.is_global_zero),
        )
    return [one.text for one in told]


def check_generation(
    evaluation: EvaluationLoop, rows: Dataset | Sequence[str], settings: GenerationSettings
) -> None:
    """Raise where :func:`generated_texts` would, before anything takes time.

    Args:
        evaluation: As there.
        rows: As there.
        settings: As there.

    Raises:
        TypeError: As there.
        ValueError: As there.
    """
    backbone = _generator(evaluation, settings)
    if isinstance(backbone, CausalLM):
        backbone.check_prompts(_prompts(evaluation, rows)[1], settings.max_new_tokens)


def _asked(
    generator: TextGenerator, prompts: Sequence[str], client: Client | None
) -> Sequence[str | None]:
    """What a model answers that is no part of this program, and may raise what it likes."""
    try:
        return generator.generate(prompts)
    except Exception as error:
        whose = "the model" if client is None else f"client {client.id!r}"
        raise UnansweredError(
            f"{whose} has no answers in an evaluation, since {generator!r} has failed: {type(error).__name__}: {error}"
        ) from error


def _with_empty_ones(generator: TextGenerator, answers: Sequence[str | None]) -> list[str]:
    """Answers of which those that are not there are empty, and are judged as such."""
    if missing := sum(answer is None for answer in answers):
        why = ", ".join(f"{kind} {count}" for kind, count in generator.failures.most_common())
        rank_zero_warn(
            f"{generator!r} has no answer to {missing} of {len(answers)} prompts ({why or 'it does not say why'}): "
            "they are taken as empty"
        )
    return [answer or "" for answer in answers]


def _generator(evaluation: EvaluationLoop, settings: GenerationSettings) -> TextGenerator:
    backbone = evaluation.resident.module.backbone
    if not isinstance(backbone, TextGenerator):
        raise TypeError(
            f"predict expects `model.backbone` to be a TextGenerator, such as CausalLM, where `data.encoding` is a "
            f"{type(evaluation.data.encoding).__name__}, but got a {type(backbone).__name__}"
        )
    own = not isinstance(backbone, CausalLM)
    if own and (not settings.sampling.greedy or settings.cache is not None):
        raise ValueError(
            f"`sampling` and `cache` are expected to be left out where `model.backbone` is a "
            f"{type(backbone).__name__}, which answers in its own way"
        )
    return backbone


def _blanks(evaluation: EvaluationLoop, rows: Dataset | Sequence[str]) -> list[str] | None:
    """The blanks between a row's prompt and its answer, which are the model's to write; those of a text it finds."""
    if not hasattr(rows, "column_names"):
        return None
    return evaluation.data.encoding.blanks(rows, evaluation.resident.module.tokenizer)


def _prompts(
    evaluation: EvaluationLoop, rows: Dataset | Sequence[str]
) -> tuple[list[str], Sequence[str | Sequence[int]]]:
    """The prompts, and their tokens where these are not just those of the texts."""
    if not hasattr(rows, "column_names"):
        return list(rows), list(rows)
    encoding = evaluation.data.encoding
    prompts = encoding.prompts(rows)
    if prompts is None:
        raise TypeError(
            f"`data.encoding` is expected to give prompts where texts are generated, as a CausalLMEncoding does, but "
            f"is a {type(encoding).__name__}"
        )
    tokens = encoding.prompt_ids(rows, evaluation.resident.module.tokenizer)
    return prompts, prompts if tokens is None else tokens
