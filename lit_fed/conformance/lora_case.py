"""Rounds of LoRA of which it is known what comes of them, each for one thing that goes wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from lit_fed.conformance.lora_round import LoRARound

if TYPE_CHECKING:
    from lit_fed.backbones import SequenceClassifier

WIDTH: Final = 8
FEED_FORWARD: Final = 12

Values = Literal["different", "equal", "first is zero"]


@dataclass(frozen=True)
class LoRACase:
    """One round.

    Attributes:
        name: What it is about.
        meaning: What is wrong where it does not hold, and where that was seen.
        model: A tiny encoder (``bert``), or a decoder whose weights are stored transposed (``gpt2``).
        targets: Modules with factors.
        ranks: r of each client.
        alphas: Alpha of each client.
        rows: n_k of each client, to which its weight is proportional.
        values: What clients send.
        rank_stabilised: Whether s is alpha / √r.
        dtype: Type of what clients send.
        head: Whether they train a head as well.
    """

    name: str
    meaning: str
    model: Literal["bert", "gpt2"] = "bert"
    targets: tuple[str, ...] = ("query", "value")
    ranks: tuple[int, ...] = (2, 2, 2)
    alphas: tuple[float, ...] = (8.0, 8.0, 8.0)
    rows: tuple[int, ...] = (10, 10, 10)
    values: Values = "different"
    rank_stabilised: bool = False
    dtype: torch.dtype = torch.float64
    head: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def mixed(self) -> bool:
        """Whether ranks or alphas differ between clients."""
        return len(set(self.ranks)) > 1 or len(set(self.alphas)) > 1

    @property
    def weights(self) -> list[float]:
        """w_k."""
        return [count / sum(self.rows) for count in self.rows]

    def scale(self, rank: int, alpha: float) -> float:
        """What multiplies B·A in an adapter."""
        return alpha / (rank**0.5 if self.rank_stabilised else rank)

    def backbone(self, rank: int | None = None, alpha: float | None = None) -> SequenceClassifier:
        """A tiny model, always the same, with an adapter.

        Args:
            rank: r. None: that of the server's adapter, the largest of the clients'.
            alpha: None: the first client's.
        """
        from peft import LoraConfig

        from lit_fed.backbones import SequenceClassifier

        config = LoraConfig(
            r=max(self.ranks) if rank is None else rank,
            lora_alpha=self.alphas[0] if alpha is None else alpha,  # type: ignore[arg-type]  # peft's division takes it
            target_modules=list(self.targets),
            use_rslora=self.rank_stabilised,
            fan_in_fan_out=self.model == "gpt2",
        )
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            _save_tiny(self.model, folder)
            return SequenceClassifier(folder, num_labels=3, peft=config).double()

    def drawn(self, client: int, shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a client sends.

        Args:
            client: Its number.
            shapes: Tensors of the names and shapes.
        """
        generator = torch.Generator().manual_seed(0 if self.values == "equal" else client)
        zero = self.values == "first is zero" and client == 0
        return {
            name: (
                torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * (not zero)
            ).to(self.dtype)
            for name, tensor in shapes.items()
        }

    def of_the_case(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An adapter's tensors: the factors alone, if the case is not about a head."""
        return {n: t for n, t in tensors.items() if self.head or "lora_" in n}

    def round(self) -> LoRARound:
        """The round as a rule is given it."""
        server = self.backbone()
        of_rank = {rank: self.backbone(rank).trainable() for rank in {*self.ranks}}
        updates = [
            self.of_the_case(self.drawn(client, of_rank[rank]))
            for client, rank in enumerate(self.ranks)
        ]
        return LoRARound(
            updates=updates,
            weights=self.weights,
            scales=[self.scale(r, a) for r, a in zip(self.ranks, self.alphas, strict=True)],
            alphas=self.alphas,
            scale=self.scale(max(self.ranks), self.alphas[0]),
            rank=max(self.ranks),
            previous=self.of_the_case(
                {n: p.detach().clone() for n, p in server.trainable().items()}
            ),
            transposed=transposed_layers(server),
        )

    @property
    def tolerance(self) -> float:
        """How far results may be from the answer: float32 somewhere on the way is no fault."""
        return 1e-2 if self.dtype == torch.bfloat16 else 1e-5


def lora_cases() -> list[LoRACase]:
    """All cases.

    For pytest: ``@pytest.mark.parametrize("case", lora_cases(), ids=str)``.

    Example:
        >>> [case.name for case in lora_cases()][:3]
        ['one client', 'equal clients', 'weights 3 : 1']
    """
    return [
        LoRACase(
            "one client",
            "the change of a single client does not arrive as it is: scaled twice, or not at all",
            ranks=(2,),
            alphas=(8.0,),
            rows=(10,),
        ),
        LoRACase(
            "equal clients",
            "clients that send the same are not that: FLoRA's homogeneous baseline returns client 0's adapter "
            "times its weight",
            values="equal",
        ),
        LoRACase(
            "weights 3 : 1",
            "weights are ignored: the public code of FedEx-LoRA and LoRA-FAIR averages unweighted",
            ranks=(2, 2),
            alphas=(8.0, 8.0),
            rows=(30, 10),
        ),
        LoRACase(
            "different clients",
            "neither Σ w s B A nor the mean of the factors: something else than the uploads is combined",
        ),
        LoRACase(
            "order of clients",
            "the result depends on who comes first: a client's adapter is taken for all",
            rows=(10, 20, 30),
        ),
        LoRACase(
            "square matrices",
            "a change is transposed, which no shape gives away: the public code of FedEx-LoRA does so in RoBERTa's "
            "query and value",
            targets=("query",),
        ),
        LoRACase(
            "non-square matrices",
            "shapes of B and A are mixed up",
            targets=("intermediate.dense",),
        ),
        LoRACase(
            "transposed layers",
            "changes are added to GPT-2's Conv1D as if it stored [out, in]",
            model="gpt2",
            targets=("c_attn", "c_proj"),
        ),
        LoRACase(
            "several target modules",
            "factors of different layers are mixed up",
            targets=("query", "key", "value", "dense"),
        ),
        LoRACase(
            "mixed ranks",
            "factors are padded with zeros and averaged (HetLoRA), or the scale of another rank is taken",
            ranks=(1, 2, 4),
            alphas=(2.0, 4.0, 8.0),
        ),
        LoRACase(
            "mixed alpha",
            "alpha / r is forgotten: products are added up as if all scales were the same",
            alphas=(8.0, 2.0, 4.0),
        ),
        LoRACase(
            "rank-stabilised",
            "alpha / r is taken where the scale is alpha / √r",
            ranks=(4, 4),
            alphas=(8.0, 8.0),
            rows=(10, 10),
            rank_stabilised=True,
        ),
        LoRACase(
            "a head",
            "what is trained beside the factors is not the weighted mean of what clients send",
            rows=(30, 10, 20),
            head=True,
        ),
        LoRACase(
            "bfloat16",
            "sums are taken in the type of what was sent, or types are not taken at all",
            dtype=torch.bfloat16,
        ),
        LoRACase(
            "a client of zeros",
            "a client whose change is 0 is left out of the mean, or something is divided by its norm",
            values="first is zero",
        ),
    ]


def transposed_layers(backbone: SequenceClassifier) -> frozenset[str]:
    """Layers with factors whose weight is stored as [in, out]."""
    return frozenset(
        name
        for name, module in backbone.model.named_modules()
        if hasattr(module, "lora_A") and getattr(module, "fan_in_fan_out", False)
    )


def _save_tiny(model: str, folder: str) -> None:
    """A tiny model of random weights with its tokenizer, in Hugging Face format."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        AutoModelForSequenceClassification,
        BertConfig,
        GPT2Config,
        PreTrainedTokenizerFast,
    )

    words = ("?", ".", "good", "bad")
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="?", pad_token="."
    ).save_pretrained(folder)
    given: dict[str, Any] = {"vocab_size": len(words), "num_labels": 3, "pad_token_id": 1}
    if model == "gpt2":
        given |= {"n_embd": WIDTH, "n_inner": FEED_FORWARD, "n_layer": 1, "n_head": 2}
        config: Any = GPT2Config(bos_token_id=1, eos_token_id=1, **given)
    else:
        given |= {"hidden_size": WIDTH, "intermediate_size": FEED_FORWARD}
        config = BertConfig(num_hidden_layers=1, num_attention_heads=2, **given)
    config.save_pretrained(folder)
    weights = AutoModelForSequenceClassification.from_config(config).state_dict()
    # transformers' own way shows a progress bar
    save_file(weights, Path(folder) / "model.safetensors", metadata={"format": "pt"})
