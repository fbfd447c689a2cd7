"""Continuing batches of prompts by a language model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteriaList

from lit_fed.backbones.generation.continuation import Continuation
from lit_fed.backbones.generation.progress import GenerationProgress, Watch, answer_length
from lit_fed.backbones.generation.prompt import Prompt
from lit_fed.backbones.generation.sampling import Sampling
from lit_fed.backbones.generation.seeded_choice import choice
from lit_fed.backbones.generation.stop_strings import StopStrings, cut_at
from lit_fed.backbones.padding import continues_padded, padded, trial_rows, undisturbed


def continued(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    batches: Iterable[Sequence[Prompt]],
    config: GenerationConfig,
    sampling: Sampling,
    stop: Sequence[str],
    progress: GenerationProgress,
) -> Iterator[dict[Prompt, Continuation]]:
    """Continue prompts, padded on the left, with the keys and values of the tokens before kept.

    Args:
        model: Of transformers or in peft's wrapper, as it is to predict.
        tokenizer: Makes texts of tokens.
        batches: The prompts that are continued together.
        config: What decides greedy answers, all of it.
        sampling: How tokens are chosen.
        stop: Texts at which an answer ends.
        progress: Told what is done.

    Yields:
        The answers of each batch, as soon as they are there.
    """
    pad, ends = int(config.pad_token_id), list(config.eos_token_id)
    for prompts in batches:
        inputs = padded([prompt.tokens for prompt in prompts], pad, "left")
        start = inputs["input_ids"].shape[1]
        criteria = StoppingCriteriaList()
        if progress.moves:
            criteria.append(Watch(progress, start, ends, pad))
        if stop:
            blanks = [prompt.blanks for prompt in prompts]
            criteria.append(StopStrings(tokenizer, stop, start, blanks))
        output = model.generate(
            **{name: field.to(model.device) for name, field in inputs.items()},
            generation_config=config,
            logits_processor=choice(sampling, prompts, start, config.max_new_tokens),
            stopping_criteria=criteria,
        )
        new = output[:, start:]
        answers = {
            prompt: _answer(tokenizer, tokens, ends, pad, prompt.blanks, stop)
            for prompt, tokens in zip(prompts, new.tolist(), strict=True)
        }
        progress.add(len(prompts), sum(one.tokens for one in answers.values()))
        yield answers


def _answer(
    tokenizer: PreTrainedTokenizerBase,
    tokens: list[int],
    ends: Sequence[int],
    pad: int,
    blanks: str,
    stop: Sequence[str],
) -> Continuation:
    """What the tokens of an answer say; one that ends it is no part of the text, also where it is no special one."""
    count = answer_length(tokens, ends, pad)
    over = count > 0 and tokens[count - 1] in ends
    said = str(tokenizer.decode(tokens[: count - over], skip_special_tokens=True))
    whole = said.removeprefix(blanks)
    text = cut_at(whole, stop)
    return Continuation(text, count, over or text != whole)


@contextmanager
def settled(module: nn.Module, holders: Sequence[Any], config: GenerationConfig) -> Iterator[None]:
    """Within the block a model generates without dropout or gradients, by one configuration; all is put back after it.

    Args:
        module: Whose mode of training it is.
        holders: The model and what wraps it: what a configuration leaves open, transformers takes from the model's
            own, and peft from its copy of it.
        config: The configuration.
    """
    flags = {part: part.training for part in module.modules()}
    own = [(holder, holder.generation_config) for holder in holders]
    module.eval()
    try:
        for holder, _ in own:
            holder.generation_config = config
        with torch.no_grad():
            yield
    finally:
        for holder, before in own:
            holder.generation_config = before
        for part, flag in flags.items():
            part.training = flag


def may_be_padded(module: nn.Module, model: Any, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a model continues a short text the same beside a long one; not where it counts padding as positions.

    Args:
        module: What is put to evaluation, and back.
        model: Of transformers or in peft's wrapper.
        tokenizer: The model's.
    """
    pad = int(tokenizer.pad_token_id)

    def first(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        given: dict[str, Any] = {"return_dict_in_generate": True, "output_logits": True}
        output = model.generate(
            **{name: field.to(model.device) for name, field in batch.items()},
            max_new_tokens=1,
            do_sample=False,
            num_beams=1,
            pad_token_id=pad,
            **given,
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    with undisturbed(module):
        return continues_padded(first, *trial_rows(tokenizer, prefix=True), pad)
