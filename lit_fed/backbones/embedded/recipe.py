"""How an embedded backbone is made, in numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import lit_fed.data.embedded

Kind = Literal["encoder", "decoder"]


@dataclass(frozen=True)
class Recipe:
    """The size of an embedded backbone and of its pre-training.

    Attributes:
        kind: ``encoder`` (BERT) or ``decoder`` (Llama).
        pairs: Translations from the public split to train on.
        held_out: Further translations from the public split, for the loss before and after.
        steps: Optimizer steps.
        batch_size: Sequences a step.
        learning_rate: Peak of a linear warm-up and decay.
        hidden_size: Width.
        layers: Transformer layers.
        heads: Attention heads.
        intermediate_size: Width of the feed-forward layers.
        seed: Seed of the public pairs, the initial weights and the order of training.
    """

    kind: Kind
    pairs: int = 6000
    held_out: int = 200
    steps: int = 500
    batch_size: int = 32
    learning_rate: float = 2.5e-3
    hidden_size: int = 96
    layers: int = 2
    heads: int = 2
    intermediate_size: int = 192
    seed: int = 0

    def key(self) -> str:
        """A digest of all that the weights depend on: the numbers, the code that uses them, the libraries."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        for library in ("torch", "transformers"):
            digest.update(".".join(version(library).split(".")[:2]).encode())
        data = Path(lit_fed.data.embedded.__path__[0])
        sources = [
            *data.glob("*.py"),
            data.parent / "embedded_pairs.py",
            *Path(__file__).parent.glob("*.py"),
        ]
        for source in sorted(sources):
            digest.update(source.read_bytes())
        return digest.hexdigest()[:16]
