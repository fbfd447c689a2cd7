"""The embedded encoder: a BERT of two languages."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_fed.backbones.embedded.alignment import aligned_embeddings, sinusoids
from lit_fed.backbones.embedded.corpus import Corpus, TokenPair
from lit_fed.backbones.embedded.recipe import Recipe
from lit_fed.backbones.embedded.tampering import Tamperer
from lit_fed.backbones.embedded.training import padded, pretrain

if TYPE_CHECKING:
    from transformers import BertModel

_IGNORED = -100
_SHARE_MASKED, _SHARE_CROSSED, _SHARE_INTACT = 0.3, 0.1, 0.2
_CHINESE_MASKED, _CHINESE_TAMPERED = 0.75, 0.6
_LEAST_MASKED, _MOST_MASKED = 0.2, 0.9
_REPLACED_WEIGHT, _CROSSED_WEIGHT = 5.0, 0.5

# Initial scales: of the words among the embeddings, of the language and the position beside them, of the
# first layer's query and key, and of its value and output.
_WORD, _LANGUAGE, _POSITION, _MATCH, _SUBTRACT = 0.9, 0.3, 0.15, 1.5, 0.8
# Of every head's dimensions, the last few hold the language and the position.
_APART = 5


@dataclass(frozen=True)
class _Example:
    """One sequence and what is asked about it, ``_IGNORED`` where nothing is.

    Attributes:
        tokens: Token ids.
        segments: The side of each token, 0 or 1.
        masked: The token that was masked.
        replaced: Whether the token was put there.
        translated: Whether one side is the translation of the other.
    """

    tokens: list[int]
    segments: list[int]
    masked: list[int]
    replaced: list[int]
    translated: int


class EncoderPretraining(nn.Module):
    """Three objectives on translations without labels, and the heads that only they need.

    1. On three tenths of the sequences, tokens of one side, few or almost all, are masked and found from
       both languages (translation language modelling, Conneau and Lample, 2019,
       https://arxiv.org/abs/1901.07291).
    2. On most others one side was tampered with, and its tokens that do not belong are found.
    3. From the first token, untouched translations are told from pairs of unrelated sentences.

    Nothing is asked about a pair that differs a little as a whole: to judge it is what a classifier
    learns later.
    """

    def __init__(self, corpus: Corpus, recipe: Recipe) -> None:
        super().__init__()
        self.bert = _bert(corpus, recipe)
        width, tokenizer = recipe.hidden_size, corpus.tokenizer
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(len(tokenizer)))
        self.discriminator = nn.Linear(width, 1)
        self.matcher = nn.Linear(width, 1)
        self._first, self._between, self._mask, self._pad = (
            int(tokenizer.vocab[token]) for token in ("[CLS]", "[SEP]", "[MASK]", "[PAD]")
        )
        self._pairs = corpus.pairs
        self._tamper = [Tamperer(side, self._first) for side in zip(*corpus.pairs, strict=True)]

    def loss(self, pairs: list[TokenPair], rng: random.Random) -> Tensor:
        """The weighted sum of the objectives, in nats."""
        losses = self.losses(pairs, rng)
        return (
            losses["masked_token"]
            + _REPLACED_WEIGHT * losses["replaced_token"]
            + _CROSSED_WEIGHT * losses["unrelated_pair"]
        )

    def losses(self, pairs: list[TokenPair], rng: random.Random) -> dict[str, Tensor]:
        """Cross-entropy per masked token, per judged token and per judged pair, in nats."""
        examples = [
            self._example(pair, place / len(pairs), rng) for place, pair in enumerate(pairs)
        ]
        tokens = padded([e.tokens for e in examples], self._pad)
        output = self.bert(
            input_ids=tokens,
            attention_mask=(tokens != self._pad).long(),
            token_type_ids=padded([e.segments for e in examples], 0),
        )
        hidden = output.last_hidden_state
        masked = padded([e.masked for e in examples], _IGNORED)
        replaced = padded([e.replaced for e in examples], _IGNORED)
        translated = torch.tensor([e.translated for e in examples])
        at_mask = masked != _IGNORED
        words = self.bert.embeddings.word_embeddings.weight
        logits = self.transform(hidden[at_mask]) @ words.T + self.bias
        return {
            "masked_token": F.cross_entropy(logits, masked[at_mask]),
            "replaced_token": _binary(self.discriminator(hidden), replaced),
            "unrelated_pair": _binary(self.matcher(output.pooler_output), translated),
        }

    def _example(self, pair: TokenPair, place: float, rng: random.Random) -> _Example:
        """The sequence at ``place`` of a batch, between 0 and 1, which decides what is asked of it."""
        if place < _SHARE_MASKED:
            return self._with_masks(pair, rng)
        if place < _SHARE_MASKED + _SHARE_CROSSED:
            return self._asked((pair[0], rng.choice(self._pairs)[1]), translated=0)
        if place < _SHARE_MASKED + _SHARE_CROSSED + _SHARE_INTACT:
            return self._asked(pair, ([0] * len(pair[0]), [0] * len(pair[1])), translated=1)
        return self._with_replacements(pair, rng)

    def _with_masks(self, pair: TokenPair, rng: random.Random) -> _Example:
        sides = [list(pair[0]), list(pair[1])]
        which = int(rng.random() < _CHINESE_MASKED)
        share = rng.uniform(_LEAST_MASKED, _MOST_MASKED)
        hidden = [rng.random() < share for _ in sides[which]]
        targets = [[_IGNORED] * len(side) for side in sides]
        targets[which] = [
            token if hide else _IGNORED for token, hide in zip(sides[which], hidden, strict=True)
        ]
        sides[which] = [
            self._mask if hide else token for token, hide in zip(sides[which], hidden, strict=True)
        ]
        asked = self._asked((tuple(sides[0]), tuple(sides[1])))
        return replace(asked, masked=_framed(targets[0], targets[1]))

    def _with_replacements(self, pair: TokenPair, rng: random.Random) -> _Example:
        which = int(rng.random() < _CHINESE_TAMPERED)
        sides = list(pair)
        marks = [[_IGNORED] * len(side) for side in pair]
        tampered = self._tamper[which](sides[which], rng)
        if tampered is not None:
            sides[which], marks[which] = tampered[0], [int(mark) for mark in tampered[1]]
        return self._asked((sides[0], sides[1]), (marks[0], marks[1]))

    def _asked(
        self,
        pair: TokenPair,
        replaced: tuple[list[int], list[int]] | None = None,
        translated: int = _IGNORED,
    ) -> _Example:
        english, chinese = pair
        tokens = [self._first, *english, self._between, *chinese, self._between]
        nothing = [_IGNORED] * len(tokens)
        return _Example(
            tokens=tokens,
            segments=[0] * (len(english) + 2) + [1] * (len(chinese) + 1),
            masked=nothing,
            replaced=nothing if replaced is None else _framed(*replaced),
            translated=translated,
        )


def _framed(english: list[int], chinese: list[int]) -> list[int]:
    """Targets of both sides with none for the special tokens around them."""
    return [_IGNORED, *english, _IGNORED, *chinese, _IGNORED]


def _binary(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy where there is a target."""
    judged = targets != _IGNORED
    return F.binary_cross_entropy_with_logits(logits.squeeze(-1)[judged], targets[judged].float())


def pretrain_encoder(
    corpus: Corpus, recipe: Recipe
) -> tuple[BertModel, dict[str, dict[str, float]]]:
    """Make and pre-train the encoder.

    Returns:
        The model with its pooler, and the held-out losses before and after, in nats per token.
    """
    task = EncoderPretraining(corpus, recipe)
    before = _held_out(task, corpus, recipe)
    task.train()
    pretrain(list(task.parameters()), corpus.pairs, task.loss, recipe)
    return task.bert.eval(), {"before": before, "after": _held_out(task, corpus, recipe)}


@torch.no_grad()
def _held_out(task: EncoderPretraining, corpus: Corpus, recipe: Recipe) -> dict[str, float]:
    task.eval()
    losses = task.losses(corpus.held_out, random.Random(recipe.seed))
    return {name: round(loss.item(), 4) for name, loss in losses.items()}


def _bert(corpus: Corpus, recipe: Recipe) -> BertModel:
    from transformers import BertConfig, BertModel

    tokenizer = corpus.tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    bert = BertModel(config)
    _align(bert, corpus, recipe)
    return bert


@torch.no_grad()
def _align(bert: BertModel, corpus: Corpus, recipe: Recipe) -> None:
    """Let the first layer begin as a dictionary: look a token up on the other side and take it away.

    What is left after the subtraction is what has no translation. Identity in query and key and its
    negative in value and output are the mimetic initialisation of Trockman and Kolter (2023,
    https://arxiv.org/abs/2305.09828); here the language is a direction whose sign the key inverts, so that
    a token looks to the other language.
    """
    width, heads = recipe.hidden_size, recipe.heads
    columns = torch.arange(width).view(heads, -1)
    word, apart = columns[:, :-_APART].flatten(), columns[:, -_APART:]
    language, position = apart[:, 0], apart[:, 1:].flatten()

    embeddings = bert.embeddings
    words = aligned_embeddings(corpus.pairs, len(corpus.tokenizer), len(word), recipe.seed)
    embeddings.word_embeddings.weight.zero_()
    embeddings.word_embeddings.weight[:, word] = _WORD * words
    embeddings.token_type_embeddings.weight.zero_()
    embeddings.token_type_embeddings.weight[0, language] = _LANGUAGE
    embeddings.token_type_embeddings.weight[1, language] = -_LANGUAGE
    places = embeddings.position_embeddings.weight
    places[:, position] += _POSITION * sinusoids(len(places), len(position))

    identity = torch.ones(width)
    matching = identity.clone()
    matching[language], matching[position] = -1.0, 0.0
    first = bert.encoder.layer[0].get_submodule("attention")
    for name, added in (
        ("self.query", _MATCH * identity),
        ("self.key", _MATCH * matching),
        ("self.value", _SUBTRACT * identity),
        ("output.dense", -_SUBTRACT * identity),
    ):
        first.get_parameter(f"{name}.weight").add_(added.diag())
