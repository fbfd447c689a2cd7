"""Each metric with a few updates, for the tests of what all of them have to do."""

from collections.abc import Callable
from typing import Any

import torch
from torchmetrics import Metric

from lit_fed.metrics import (
    ClientFairness,
    CommunicationVolume,
    GeneralizationUnderShift,
    LearningAccuracy,
    ParameterEfficiency,
    RepresentationStabilityIndex,
    SemanticRetentionScore,
    TaskMatrix,
    TaskTransferAccuracy,
)

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
}


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
    if name == "fairness":
        return [{"value": right(), "client": client} for client in (0, 1, 2, 1, 0)]
    return [{"up": 10 * n, "down": 20 + n, "round": n // 2} for n in range(7)]
