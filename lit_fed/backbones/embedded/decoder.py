"""The embedded decoder: a Llama that continues English by its translation."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_fed.backbones.embedded.alignment import aligned_embeddings
from lit_fed.backbones.embedded.corpus import Corpus, TokenPair
from lit_fed.backbones.embedded.recipe import Recipe
from lit_fed.backbones.embedded.training import padded, pretrain

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

# Scale of the aligned embeddings. They are also the output's, whose logits it bounds.
_WORD = 0.3


def pretrain_decoder(
    corpus: Corpus, recipe: Recipe
) -> tuple[LlamaForCausalLM, dict[str, dict[str, float]]]:
    """Make and pre-train the decoder on texts of an English sentence and its translation.

    Returns:
        The model, and the held-out losses before and after, in nats per token: of the whole text, and of
        the translation alone.
    """
    llama = _llama(corpus, recipe)
    tokenizer = corpus.tokenizer
    first, last = tokenizer.bos_token_id, tokenizer.eos_token_id

    def losses(pairs: list[TokenPair]) -> tuple[Tensor, Tensor]:
        texts = [[first, *english, *chinese, last] for english, chinese in pairs]
        tokens = padded(texts, tokenizer.pad_token_id)
        lengths = [len(text) for text in texts]
        starts = [len(english) + 1 for english, _ in pairs]
        place = torch.arange(1, tokens.shape[1])
        real = place < torch.tensor(lengths)[:, None]
        translation = real & (place >= torch.tensor(starts)[:, None])
        logits = llama(input_ids=tokens).logits[:, :-1]
        targets = tokens[:, 1:]
        per_token = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        return per_token[real].mean(), per_token[translation].mean()

    def loss(pairs: list[TokenPair], rng: random.Random) -> Tensor:
        return losses(pairs)[0]

    @torch.no_grad()
    def held_out() -> dict[str, float]:
        llama.eval()
        text, translation = losses(corpus.held_out)
        return {"text": round(text.item(), 4), "translation": round(translation.item(), 4)}

    before = held_out()
    llama.train()
    pretrain(list(llama.parameters()), corpus.pairs, loss, recipe)
    return llama.eval(), {"before": before, "after": held_out()}


def _llama(corpus: Corpus, recipe: Recipe) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = corpus.tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    llama = LlamaForCausalLM(config)
    words = aligned_embeddings(corpus.pairs, len(tokenizer), recipe.hidden_size, recipe.seed)
    with torch.no_grad():
        llama.model.embed_tokens.weight.copy_(_WORD * words)
    return llama
