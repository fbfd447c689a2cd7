"""Makes the embedded encoder: a small BERT of two languages, pre-trained on translations without labels.

    python -m tools.embedded.make_encoder lit_fed/backbones/embedded/encoder

One thread, so that sums are made in the same order on any number of cores: the same machine and libraries give the
same bytes. Writes the model in half precision with its tokenizer, and ``tools/embedded/encoder_report.json``.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from lit_fed.data.embedded_mistakes import MISTAKES
from tools.embedded.alignment import aligned_embeddings, sinusoids
from tools.embedded.corpus import TokenPair, token_pairs, translations
from tools.embedded.tampering import Tamperer
from tools.embedded.tokenizer import make_tokenizer
from tools.embedded.training import batches_by_length, padded, pretrain

WIDTH, LAYERS, HEADS, FEED_FORWARD = 128, 4, 4, 512
PAIRS, HELD_OUT = 30_000, 1_000
BATCH_SIZE, LEARNING_RATE = 64, 2e-3
SEED = 0

_IGNORED = -100
# What is asked of a batch's examples, in shares of it; the rest are tampered with.
_SHARE_MASKED, _SHARE_CROSSED, _SHARE_INTACT = 0.25, 0.05, 0.15
_CHINESE_MASKED, _CHINESE_TAMPERED = 0.75, 0.8
_LEAST_MASKED, _MOST_MASKED = 0.1, 0.6
_REPLACED_WEIGHT, _CROSSED_WEIGHT, _MISSING_WEIGHT = 5.0, 0.5, 1.0

# Initial scales: of the words among the embeddings, of the language and the position beside them, of the
# first layer's query and key, and of its value and output.
_WORD_SCALE, _LANGUAGE, _POSITION, _MATCH, _SUBTRACT = 0.9, 0.3, 0.15, 1.5, 0.8
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
        missing: Tokens that were there and are not any more, one at random of which the first position predicts.
    """

    tokens: list[int]
    segments: list[int]
    masked: list[int]
    replaced: list[int]
    translated: int
    missing: tuple[int, ...]


class EncoderPretraining(nn.Module):
    """Four objectives on translations without labels, and the heads that only they need.

    1. Tokens of one side are masked and found from both languages (translation language modelling, Conneau and Lample,
       2019, https://arxiv.org/abs/1901.07291).
    2. One side was tampered with, and its tokens that do not belong are found (replaced token detection, Clark et al.,
       2020, https://arxiv.org/abs/2003.10555).
    3. From the first position alone, untouched translations are told from pairs of unrelated sentences.
    4. From the first position alone, the tokens that were masked or replaced are predicted; a sentence to which nothing
       was done has a token of its own as the answer. It is what fills the sentence's vector.
    """

    def __init__(self, pairs: list[TokenPair], tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.bert = _bert(pairs, tokenizer)
        self.transform = _transform()
        self.bias = nn.Parameter(torch.zeros(len(tokenizer)))
        self.discriminator = nn.Linear(WIDTH, 1)
        self.matcher = nn.Linear(WIDTH, 1)
        self.missing = _transform()
        self.missing_bias = nn.Parameter(torch.zeros(len(tokenizer)))
        self._first, self._between, self._mask, self._pad = (
            int(tokenizer.vocab[token]) for token in ("[CLS]", "[SEP]", "[MASK]", "[PAD]")
        )
        self._pairs = pairs
        self._tamper = [Tamperer(side, self._first) for side in zip(*pairs, strict=True)]

    def loss(self, pairs: list[TokenPair], rng: random.Random) -> Tensor:
        """The weighted sum of the objectives, in nats."""
        losses = self.losses(pairs, rng)
        return (
            losses["masked_token"]
            + _REPLACED_WEIGHT * losses["replaced_token"]
            + _CROSSED_WEIGHT * losses["unrelated_pair"]
            + _MISSING_WEIGHT * losses["missing_token"]
        )

    def losses(self, pairs: list[TokenPair], rng: random.Random) -> dict[str, Tensor]:
        """Cross-entropy per masked token, judged token, judged pair and missing token, in nats."""
        examples = [
            self._example(pair, place / len(pairs), rng) for place, pair in enumerate(pairs)
        ]
        tokens = padded([e.tokens for e in examples], self._pad)
        output = self.bert(
            input_ids=tokens,
            attention_mask=(tokens != self._pad).long(),
            token_type_ids=padded([e.segments for e in examples], 0),
        )
        hidden, pooled = output.last_hidden_state, output.pooler_output
        masked = padded([e.masked for e in examples], _IGNORED)
        replaced = padded([e.replaced for e in examples], _IGNORED)
        translated = torch.tensor([e.translated for e in examples])
        at_mask = masked != _IGNORED
        words = self.bert.embeddings.word_embeddings.weight
        rows = [row for row, e in enumerate(examples) for _ in e.missing]
        targets = torch.tensor([token for e in examples for token in e.missing])
        shares = torch.tensor([1 / len(e.missing) for e in examples for _ in e.missing])
        guesses = self.missing(pooled) @ words.T + self.missing_bias
        return {
            "masked_token": F.cross_entropy(
                self.transform(hidden[at_mask]) @ words.T + self.bias, masked[at_mask]
            ),
            "replaced_token": _binary(self.discriminator(hidden), replaced),
            "unrelated_pair": _binary(self.matcher(pooled), translated),
            "missing_token": (
                F.cross_entropy(guesses[rows], targets, reduction="none") * shares
            ).sum()
            / shares.sum(),
        }

    def _example(self, pair: TokenPair, place: float, rng: random.Random) -> _Example:
        """The sequence at ``place`` of a batch, between 0 and 1, which decides what is asked of it."""
        if place < _SHARE_MASKED:
            return self._with_masks(pair, rng)
        if place < _SHARE_MASKED + _SHARE_CROSSED:
            return self._asked((pair[0], rng.choice(self._pairs)[1]), translated=0)
        if place < _SHARE_MASKED + _SHARE_CROSSED + _SHARE_INTACT:
            nothing = ([0] * len(pair[0]), [0] * len(pair[1]))
            return self._asked(pair, nothing, translated=1, missing=(self._first,))
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
        gone = tuple(token for token in targets[which] if token != _IGNORED)
        asked = self._asked((tuple(sides[0]), tuple(sides[1])), missing=gone)
        return replace(asked, masked=_framed(targets[0], targets[1]))

    def _with_replacements(self, pair: TokenPair, rng: random.Random) -> _Example:
        which = int(rng.random() < _CHINESE_TAMPERED)
        tampered = self._tamper[which](pair[which], rng)
        if tampered is None:
            return self._asked(pair)
        sides = list(pair)
        marks = [[_IGNORED] * len(side) for side in pair]
        sides[which], marks[which] = tampered.tokens, [int(mark) for mark in tampered.marks]
        return self._asked((sides[0], sides[1]), (marks[0], marks[1]), missing=tampered.gone)

    def _asked(
        self,
        pair: TokenPair,
        replaced: tuple[list[int], list[int]] | None = None,
        translated: int = _IGNORED,
        missing: tuple[int, ...] = (),
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
            missing=missing,
        )

    @torch.no_grad()
    def found(self, pairs: list[TokenPair], rng: random.Random) -> float:
        """How often the likeliest wrong token of a tampered Chinese side is one that is wrong."""
        self.bert.eval()
        examples = []
        while len(examples) < len(pairs):
            pair = pairs[len(examples)]
            tampered = self._tamper[1](pair[1], rng)
            if tampered is None:
                pairs = [p for p in pairs if p is not pair]
                continue
            marks = ([0] * len(pair[0]), [int(mark) for mark in tampered.marks])
            examples.append(self._asked((pair[0], tampered.tokens), marks))
        tokens = padded([e.tokens for e in examples], self._pad)
        segments = padded([e.segments for e in examples], 0)
        marks = padded([e.replaced for e in examples], 0)
        mask = (tokens != self._pad).long()
        hidden = self.bert(tokens, mask, segments).last_hidden_state
        scores = (
            self.discriminator(hidden)
            .squeeze(-1)
            .masked_fill((mask == 0) | (segments == 0), float("-inf"))
        )
        likeliest = scores.argmax(1)
        self.bert.train()
        return float((marks[torch.arange(len(marks)), likeliest] == 1).float().mean())


def _transform() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH))


def _framed(english: list[int], chinese: list[int]) -> list[int]:
    """Targets of both sides with none for the special tokens around them."""
    return [_IGNORED, *english, _IGNORED, *chinese, _IGNORED]


def _binary(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy where there is a target."""
    judged = targets != _IGNORED
    return F.binary_cross_entropy_with_logits(logits.squeeze(-1)[judged], targets[judged].float())


def _bert(pairs: list[TokenPair], tokenizer: PreTrainedTokenizerFast) -> BertModel:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FEED_FORWARD,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        # what a classifier of the embedded data tells apart
        id2label=dict(enumerate(MISTAKES)),
        label2id={name: number for number, name in enumerate(MISTAKES)},
    )
    bert = BertModel(config)
    _align(bert, pairs, len(tokenizer))
    return bert


@torch.no_grad()
def _align(bert: BertModel, pairs: list[TokenPair], vocab_size: int) -> None:
    """Let the first layer begin as a dictionary: look a token up on the other side and take it away.

    What is left after the subtraction is what has no translation. Identity in query and key and its
    negative in value and output are the mimetic initialisation of Trockman and Kolter (2023,
    https://arxiv.org/abs/2305.09828); here the language is a direction whose sign the key inverts, so that
    a token looks to the other language.
    """
    columns = torch.arange(WIDTH).view(HEADS, -1)
    word, apart = columns[:, :-_APART].flatten(), columns[:, -_APART:]
    language, position = apart[:, 0], apart[:, 1:].flatten()

    embeddings = bert.embeddings
    words = aligned_embeddings(pairs, vocab_size, len(word), SEED)
    embeddings.word_embeddings.weight.zero_()
    embeddings.word_embeddings.weight[:, word] = _WORD_SCALE * words
    embeddings.token_type_embeddings.weight.zero_()
    embeddings.token_type_embeddings.weight[0, language] = _LANGUAGE
    embeddings.token_type_embeddings.weight[1, language] = -_LANGUAGE
    places = embeddings.position_embeddings.weight
    places[:, position] += _POSITION * sinusoids(len(places), len(position))

    identity = torch.ones(WIDTH)
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


def main() -> None:
    """Make the encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="sentences to train on")
    parser.add_argument(
        "--report", type=Path, default=Path(__file__).with_name("encoder_report.json")
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    start = time.perf_counter()

    known = translations("public", options.pairs + HELD_OUT, SEED)
    unseen = translations("unseen_names", HELD_OUT, SEED)
    tokenizer = make_tokenizer(text for pair in known for text in (pair.english, pair.chinese))
    pairs = token_pairs(known, tokenizer)
    pairs, held_out = pairs[: options.pairs], pairs[options.pairs :]
    new = token_pairs(unseen, tokenizer)
    task = EncoderPretraining(pairs, tokenizer)

    def measured() -> dict[str, float]:
        with torch.no_grad():
            task.eval()
            losses = task.losses(held_out, random.Random(SEED))
            task.train()
        return {
            **{name: round(loss.item(), 4) for name, loss in losses.items()},
            "wrong token found": round(task.found(held_out, random.Random(SEED)), 4),
            "wrong token found, unseen names": round(task.found(new, random.Random(SEED)), 4),
        }

    before = measured()
    print(f"{sum(p.numel() for p in task.bert.parameters()):,} parameters, {len(tokenizer)} tokens")
    print(f"{time.perf_counter() - start:.0f} s of preparation; before: {before}", flush=True)
    pretrain(
        list(task.parameters()),
        batches_by_length(
            pairs, lambda pair: len(pair[0]) + len(pair[1]), BATCH_SIZE, random.Random(SEED)
        ),
        task.loss,
        options.steps,
        LEARNING_RATE,
        SEED,
        lambda step: print(measured(), flush=True),
    )
    after = measured()
    task.bert.eval().half().save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    report = {
        "parameters": sum(p.numel() for p in task.bert.parameters()),
        "tokens": len(tokenizer),
        "bytes": sum(file.stat().st_size for file in options.folder.iterdir()),
        "pairs": options.pairs,
        "steps": options.steps,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "seed": SEED,
        "seconds": round(time.perf_counter() - start),
        "held out, before": before,
        "held out, after": after,
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
    options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
