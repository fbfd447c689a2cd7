"""Each metric with a few updates, for the tests of what all of them have to do."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torchmetrics import Metric

from lit_fed.metrics import (
    AttackSuccessRate,
    CleanAccuracyDrop,
    CleanRowsLost,
    ClientFairness,
    ClientJensenShannon,
    ClientTfidfCosine,
    CommunicationVolume,
    CompressionRatio,
    DistinctN,
    DuplicateNgramRate,
    EntityFidelity,
    ExactMatch,
    FillerRate,
    GeneralizationUnderShift,
    KeptShare,
    LearningAccuracy,
    LengthRatio,
    MultipleChoiceAccuracy,
    NumberFidelity,
    ParameterEfficiency,
    Perplexity,
    PhraseSuccessRate,
    PrototypeCoverage,
    PrototypeDrift,
    PrototypePurity,
    PrototypeUsage,
    RepresentationStabilityIndex,
    RightAnswers,
    RougeL,
    SemanticRetentionScore,
    TaskMatrix,
    TaskTransferAccuracy,
)

PREDS = [
    ["It took Ann 3 days in Paris, and 3 days in Rome.", "", "Of course it is very, very 42."],
    ["我们 在 12 点 出发, in order to win", "one two three one two three one two three"],
    ["Then Bob met Carl.", "7", "So it was: 1,000 men and ninety ships, actually."],
]
TARGET = [
    ["It took Ann 3 days in Paris.", "Yes.", "42"],
    ["我们在十二点出发", "One, two, three."],
    ["Then Bob met Dora and Carl.", "8", "A thousand men and 90 ships."],
]


def has_the_answer(row: Mapping[str, Any], text: str) -> bool:
    """Judges an answer; pickle finds it here."""
    return row["answer"] in text


METRICS: dict[str, Callable[[], Metric]] = {
    "matrix": lambda: TaskMatrix(2),
    "srs": lambda: SemanticRetentionScore(2, chance=0.25),
    "since learnt": lambda: SemanticRetentionScore(2, chance=0.25, mode="since_learnt"),
    "la": lambda: LearningAccuracy(2),
    "bwt": lambda: SemanticRetentionScore(2, mode="bwt"),
    "cosine": lambda: SemanticRetentionScore(2, mode="cosine"),
    "jsd": lambda: SemanticRetentionScore(2, mode="jsd"),
    "tta": lambda: TaskTransferAccuracy(2),
    "fwt": lambda: TaskTransferAccuracy(2, mode="fwt"),
    "rsi": lambda: RepresentationStabilityIndex(),
    "gus": lambda: GeneralizationUnderShift(["typos", "idioms"]),
    "above chance": lambda: GeneralizationUnderShift(["typos", "idioms"], "above_chance", 0.5),
    "worst": lambda: GeneralizationUnderShift(["typos", "idioms"], mode="worst"),
    "ratio": lambda: GeneralizationUnderShift(["typos", "idioms"], mode="ratio"),
    "pe": lambda: ParameterEfficiency(),
    "relative change": lambda: ParameterEfficiency("relative_change"),
    "communicated": lambda: ParameterEfficiency("communicated"),
    "fairness": lambda: ClientFairness(3),
    "volume": lambda: CommunicationVolume(reference=100),
    "distinct": lambda: DistinctN(2),
    "duplicates": lambda: DuplicateNgramRate(3),
    "compression": lambda: CompressionRatio(),
    "length": lambda: LengthRatio(),
    "characters": lambda: LengthRatio("characters"),
    "filler": lambda: FillerRate(),
    "numbers": lambda: NumberFidelity(),
    "entities": lambda: EntityFidelity("target"),
    "exact": lambda: ExactMatch(),
    "right": lambda: RightAnswers(has_the_answer),
    "attack": lambda: AttackSuccessRate(1),
    "phrase": lambda: PhraseSuccessRate("Then"),
    "drop": lambda: CleanAccuracyDrop(60.0),
    "rouge": lambda: RougeL(),
    "perplexity": lambda: Perplexity(),
    "choice": lambda: MultipleChoiceAccuracy(),
    "coverage": lambda: PrototypeCoverage(0.7),
    "usage": lambda: PrototypeUsage(4),
    "purity": lambda: PrototypePurity(4, 3),
    "drift": lambda: PrototypeDrift(),
    "kept": lambda: KeptShare(2, 3),
    "clean lost": lambda: CleanRowsLost(),
    "words of clients": lambda: ClientJensenShannon(3),
    "tf-idf of clients": lambda: ClientTfidfCosine(3),
}

OF_TEXTS = (
    *("distinct", "duplicates", "compression", "length", "characters", "filler"),
    *("numbers", "entities", "exact", "right", "rouge", "phrase"),
)
"""Those that a collection can be given the same texts for."""


def text_updates() -> list[dict[str, Any]]:
    """Texts and all that may stand beside them."""
    return [
        {
            "preds": preds,
            "target": target,
            "source": target,
            "rows": [{"answer": text[:2]} for text in target],
        }
        for preds, target in zip(PREDS, TARGET, strict=True)
    ]


def updates(name: str) -> list[dict[str, Any]]:
    """Arguments of ``update``, each call with other data."""
    generator = torch.Generator().manual_seed(0)

    def right(n: int = 8) -> torch.Tensor:
        return torch.rand(n, generator=generator) < 0.7

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    if name in ("matrix", "srs", "since learnt", "la", "bwt", "tta", "fwt"):
        cells = [(after, task) for after in (-1, 0, 1) for task in (0, 1)] * 2
        return [{"value": right(), "after": after, "task": task} for after, task in cells]
    if name in ("cosine", "jsd"):
        pairs = [normal(2, n, 5).softmax(-1) for n in (3, 4, 5)]
        return [{"value": p, "after": 1, "task": 0, "reference": q} for p, q in pairs]
    if name == "rsi":
        sizes = [(8, 4, 0, 0), (6, 4, 0, 0), (9, 7, 0, 1), (3, 7, 0, 1), (5, 4, 1, 0)]
        features = [(normal(n, d), group, layer) for n, d, group, layer in sizes]
        return [
            {"features": x, "reference": x + normal(*x.shape), "group": group, "layer": layer}
            for x, group, layer in features
        ]
    if name in ("gus", "above chance", "worst", "ratio"):
        return [{"value": right(), "shift": shift} for shift in ["typos", "idioms", None] * 2]
    if name in ("pe", "relative change", "communicated"):
        return [
            {
                "before": {"w": torch.ones(50)},
                "after": {"w": 1 + 1e-3 * normal(50)},
                "num_parameters": 100 * n,
                "communicated": 50 * n * n,
            }
            for n in (1, 2, 3)
        ]
    if name in OF_TEXTS:
        return [METRICS[name]()._filter_kwargs(**call) for call in text_updates()]
    if name == "perplexity":
        targets = torch.tensor([[1, 5, -100], [2, 0, 6]])
        return [{"preds": normal(2, 3, 7), "target": targets} for _ in range(3)]
    if name == "choice":
        return [
            {
                "log_likelihood": [normal(3) - 5, normal(4) - 5],
                "lengths": [torch.tensor([2, 3, 4]), torch.tensor([1, 2, 3, 4])],
                "answer": [n % 3, n],
            }
            for n in range(4)
        ]
    if name in ("words of clients", "tf-idf of clients"):
        return [
            {"texts": texts, "client": client}
            for client, texts in zip((0, 1, 2, 0, 1), [*PREDS, *TARGET[:2]], strict=True)
        ]
    if name == "coverage":
        return [{"similarities": normal(n, 4).tanh()} for n in (3, 4, 5)]
    if name == "drift":
        return [{"before": normal(n, 5), "after": normal(n, 5)} for n in (3, 4, 5)]
    if name == "clean lost":
        return [{"kept": right(), "clean": right()} for _ in range(3)]
    if name == "kept":
        classes = torch.arange(8) % 3
        return [{"kept": right(), "target": classes, "client": n % 2} for n in range(4)]
    if name in ("usage", "purity"):
        draws = [torch.randint(3, (2, 7), generator=generator) for _ in range(3)]
        both = [{"assigned": a, "target": y} for a, y in draws]
        return [METRICS[name]()._filter_kwargs(**call) for call in both]
    if name == "attack":
        drawn = [torch.randint(3, (8,), generator=generator) for _ in range(6)]
        return [{"preds": a, "labels": b} for a, b in zip(drawn[:3], drawn[3:], strict=True)]
    if name == "drop":
        return [{"value": right()} for _ in range(4)]
    if name == "fairness":
        return [{"value": right(), "client": client} for client in (0, 1, 2, 1, 0)]
    return [{"up": 10 * n, "down": 20 + n, "round": n // 2} for n in range(7)]
