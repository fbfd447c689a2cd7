"""FLoRA and FedEx-LoRA beside the mean of the clients' whole weights, in NumPy and float64."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import GPT2Config, GPT2LMHeadModel

from lit_fed import FedAvg, Payload
from lit_fed.aggregation import Aggregation, FedExLoRA, FLoRA, WeightedAverage
from lit_fed.backbones import Backbone, CausalLM, SequenceClassifier
from lit_fed.backbones.folding import WeightChange
from lit_fed.client import Client
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.update import Update
from tests.methods.toy_methods import WORDS, save_toy_lm

Matrices = dict[str, np.ndarray]
RULES = [FLoRA, FedExLoRA]
ALPHA = 5

CASES: dict[str, dict[str, Any]] = {
    "square": {"r": 1, "target_modules": ["query", "value"]},
    "square, soon dense": {"r": 4, "target_modules": ["query", "value"]},
    "several shapes": {"r": 3, "target_modules": ["query", "dense"]},
    "rslora": {"r": 2, "use_rslora": True, "target_modules": ["query"]},
    "ranks by layer": {"r": 4, "rank_pattern": {"value": 2}, "target_modules": ["query", "value"]},
    "embedding": {"r": 2, "target_modules": ["word_embeddings", "key"]},
    "no head": {"r": 2, "target_modules": ["q_proj", "down_proj"]},
    "conv1d": {"r": 2, "target_modules": ["c_attn", "c_proj"]},
}


@pytest.fixture(scope="module")
def models(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("decoders")
    llama, gpt2 = save_toy_lm(folder / "llama"), save_toy_lm(folder / "gpt2")
    size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    config = GPT2Config(vocab_size=len(WORDS), bos_token_id=2, eos_token_id=2, **size)
    GPT2LMHeadModel(config).save_pretrained(gpt2)
    return {"bert": toy_model, "no head": llama, "conv1d": gpt2}


def backbone_of(case: str, models: Mapping[str, Path]) -> Backbone:
    torch.manual_seed(0)
    peft = LoraConfig(lora_alpha=ALPHA, **CASES[case])
    if case in models:
        return CausalLM(str(models[case]), peft=peft).double()
    return SequenceClassifier(str(models["bert"]), peft=peft).double()


def weights_of(backbone: Backbone) -> Matrices:
    """The weights under the adapter with its change, as peft has them."""
    found = {}
    for name, module in backbone.model.named_modules():
        if hasattr(module, "get_delta_weight"):
            weight = module.get_base_layer().weight + module.get_delta_weight("default")
            found[name] = weight.detach().numpy().copy()
    return found


def random_upload(
    backbone: Backbone, generator: np.random.Generator, adapter: str = "default"
) -> dict[str, np.ndarray]:
    weights = backbone.trainable(adapter)
    return {n: generator.normal(size=tuple(p.shape)) for n, p in weights.items()}


def product(
    case: str, layer: str, upload: Mapping[str, np.ndarray], alpha: float = ALPHA
) -> np.ndarray:
    """s·B·A as the layer stores it."""
    if "embedding" in layer:
        a, b = upload[layer + ".lora_embedding_A"], upload[layer + ".lora_embedding_B"]
    else:
        a, b = upload[layer + ".lora_A.weight"], upload[layer + ".lora_B.weight"]
    scale = alpha / (np.sqrt(len(a)) if CASES[case].get("use_rslora") else len(a))
    change: np.ndarray = scale * b @ a
    return change.T if case == "conv1d" or "embedding" in layer else change


def mean(uploads: Sequence[Mapping[str, np.ndarray]], w: np.ndarray) -> dict[str, np.ndarray]:
    same = [n for n, v in uploads[0].items() if all(v.shape == one[n].shape for one in uploads)]
    return {n: sum(v * one[n] for v, one in zip(w, uploads, strict=True)) for n in same}


def assert_exact(
    rule: Aggregation,
    case: str,
    models: Mapping[str, Path],
    rounds: int = 3,
    alphas: Mapping[str, float] | None = None,
) -> None:
    """Rounds of random clients, of which not all take part: each model is the mean of whole models.

    Args:
        rule: The rule.
        case: One of ``CASES``.
        models: Where the models are.
        rounds: How many.
        alphas: Alpha of clients by id; the others have ``ALPHA``.
    """
    generator = np.random.default_rng(len(case))
    backbone = backbone_of(case, models)
    loaded = weights_of(backbone)  # B is 0
    module = FedAvg(backbone, rule)
    resident, broadcast = ResidentModule(module), module.initial_broadcast()
    first, base = broadcast, dict(loaded)
    for number in range(rounds):
        count = 2 + number % 2
        clients = [Client(f"{i}", i, 1, round=number, rounds=0, steps=0) for i in range(count)]
        uploads = [random_upload(backbone, generator, rule.adapter(c)) for c in clients]
        sizes = generator.integers(1, 50, size=count)
        w = sizes / sizes.sum()
        updates = [
            Update(f"{i}", Payload({n: torch.tensor(v) for n, v in one.items()}), int(size))
            for i, (one, size) in enumerate(zip(uploads, sizes, strict=True))
        ]
        resident.act_as_server(broadcast, None)
        broadcast = module.aggregate(updates)
        resident.act_as_server(broadcast, None)
        assert module.server_metrics()["server/lora_distance"] < 1e-12
        average, found = mean(uploads, w), weights_of(backbone)
        for layer, before in base.items():
            changes = [
                product(case, layer, one, (alphas or {}).get(f"{i}", ALPHA))
                for i, one in enumerate(uploads)
            ]
            exact = before + sum(v * change for v, change in zip(w, changes, strict=True))
            np.testing.assert_allclose(found[layer], exact, rtol=0, atol=1e-10)
            goes_on = product(case, layer, average) if isinstance(rule, FedExLoRA) else 0
            base[layer] = exact - goes_on
        others = [n for n in average if "lora_" not in n]
        for name in others:
            np.testing.assert_allclose(broadcast.tensors[name].numpy(), average[name], atol=1e-12)
        change = broadcast.parts["base_change"].tensors
        for layer, before in base.items():
            numbers = sum(t.numel() for n, t in change.items() if n.startswith(layer + "."))
            assert 0 < numbers <= before.size
    assert bool(others) == isinstance(backbone, SequenceClassifier)
    backbone.fold({})
    resident.act_as_server(first, None)
    after = weights_of(backbone)
    assert all((after[layer] == w).all() for layer, w in loaded.items())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rule", RULES)
def test_the_next_model_is_the_mean_of_the_clients_models(
    rule: type[Aggregation], case: str, models: dict[str, Path]
) -> None:
    assert_exact(rule(), case, models)


@pytest.mark.parametrize("case", ["several shapes", "rslora", "embedding", "conv1d"])
def test_clients_may_have_ranks_and_alphas_of_their_own(case: str, models: dict[str, Path]) -> None:
    alphas = {"1": 3.0, "2": 0.5}
    assert_exact(FLoRA({"0": 1, "1": 5}, alphas), case, models, alphas=alphas)


def test_the_distance_is_of_what_was_made(models: dict[str, Path]) -> None:
    """By a rule that forgets a client; its distance is compared with NumPy's, for factors and matrices."""

    class Forgetful(FLoRA):
        def grow(self, previous: Any, sent: Any, weights: Any, terms: Any, kept: Any) -> Payload:
            def fewer(factors: Any, w: Any) -> Any:
                return terms(factors, w)[1:]

            return super().grow(previous, sent, weights, fewer, kept)

    case, generator = "square, soon dense", np.random.default_rng(5)
    backbone = backbone_of(case, models)
    module, layers = FedAvg(backbone, Forgetful()), list(weights_of(backbone))
    forms = set()
    for _ in range(5):  # of rank 4 for 32 · 32 numbers
        uploads = [random_upload(backbone, generator) for _ in range(2)]
        payloads = [Payload({n: torch.tensor(v) for n, v in one.items()}) for one in uploads]
        broadcast = module.aggregate([Update(f"{i}", p, 1) for i, p in enumerate(payloads)])
        module.download(broadcast)
        forms |= {n.rpartition(".")[2] for n in broadcast.parts["base_change"].tensors}
        lost = [product(case, layer, uploads[0]) / 2 for layer in layers]
        exact = [sum(product(case, layer, one) for one in uploads) / 2 for layer in layers]
        expected = np.sqrt(sum((m**2).sum() for m in lost) / sum((m**2).sum() for m in exact))
        found = module.server_metrics()["server/lora_distance"]
        assert found == pytest.approx(expected, rel=1e-10)
    assert forms == {"P", "Q", "dense"}


class Transposed(FedExLoRA):
    """What FedEx's public code does on RoBERTa: a change of the right shape is added as it lies."""

    def base_change(self, part: Payload) -> Mapping[str, WeightChange]:
        return {n: WeightChange(c.dense().T) for n, c in super().base_change(part).items()}


class Unscaled(FLoRA):
    """Both factors of the stack are weighted, so that a weight counts twice."""

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        w = self.weights(updates)
        twice = [
            Update(
                u.client_id,
                Payload({n: v * t if "lora_A" in n else t for n, t in u.payload.tensors.items()}),
                u.num_samples,
            )
            for u, v in zip(updates, w, strict=True)
        ]
        return super().__call__(twice, previous)


@pytest.mark.parametrize("rule", [Transposed, Unscaled, WeightedAverage])
def test_wrong_rules_are_seen(rule: type[Aggregation], models: dict[str, Path]) -> None:
    with pytest.raises(AssertionError):
        assert_exact(rule(), "square", models, rounds=1)


@pytest.mark.parametrize("rule", RULES)
def test_a_round_of_equal_clients_is_federated_averaging(
    rule: type[Aggregation], models: dict[str, Path]
) -> None:
    found = []
    for one in (rule(), WeightedAverage()):
        backbone = backbone_of("several shapes", models)
        upload = random_upload(backbone, np.random.default_rng(0))
        payload = Payload({n: torch.tensor(v) for n, v in upload.items()})
        module = FedAvg(backbone, one)
        resident = ResidentModule(module)
        resident.act_as_server(module.initial_broadcast(), None)
        broadcast = module.aggregate([Update(f"{i}", payload, i + 1) for i in range(3)])
        resident.act_as_server(broadcast, None)
        found.append(weights_of(backbone))
    for layer, weight in found[0].items():
        np.testing.assert_allclose(weight, found[1][layer], rtol=0, atol=1e-12)


def test_weights_may_be_of_another_kind(models: dict[str, Path]) -> None:
    with pytest.raises(AssertionError):
        assert_exact(FLoRA(weights="uniform"), "square", models, rounds=1)
    assert FLoRA(weights="validation").needs_validation


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("peft", "reason"),
    [
        (None, "no factors A and B"),
        (LoraConfig(use_dora=True, target_modules=["query"]), "lora_magnitude_vector"),
    ],
    ids=["all weights", "dora"],
)
def test_what_is_no_plain_lora_is_refused(
    rule: type[Aggregation], peft: LoraConfig | None, reason: str, toy_model: Path
) -> None:
    backbone = SequenceClassifier(str(toy_model), peft=peft)
    said = rf"`model\.aggregation` {rule.__name__} expects .*{reason}"
    with pytest.raises(ValueError, match=said):
        FedAvg(backbone, rule())


@pytest.mark.parametrize("way", [False, "orthogonal"])
def test_flora_refuses_what_would_be_added_again_each_round(
    way: bool | str, models: dict[str, Path]
) -> None:
    config = {"r": 2, "lora_alpha": ALPHA, "target_modules": ["query"]}
    peft = LoraConfig(init_lora_weights=way, **config)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"FLoRA expects .*init_lora_weights.*query is not 0"):
        FedAvg(SequenceClassifier(str(models["bert"]), peft=peft), FLoRA())
    gaussian = LoraConfig(init_lora_weights="gaussian", **config)
    FedAvg(SequenceClassifier(str(models["bert"]), peft=gaussian), FLoRA())


@pytest.mark.parametrize("rule", RULES)
def test_weights_that_cannot_be_changed_are_refused(
    rule: type[Aggregation], models: dict[str, Path], toy_model: Path
) -> None:
    tied = CausalLM(str(models["conv1d"]), peft=LoraConfig(target_modules=["wte"]))
    said = rf"`model\.aggregation` {rule.__name__} changes the frozen weights .*wte: .*another"
    with pytest.raises(ValueError, match=said):
        FedAvg(tied, rule())
    packed = SequenceClassifier(str(toy_model), peft=LoraConfig(target_modules=["query"]))
    for module in packed.model.modules():
        if hasattr(module, "get_delta_weight"):
            integers = torch.ones(32, 16, dtype=torch.uint8)
            module.get_base_layer().weight = torch.nn.Parameter(integers, requires_grad=False)
    with pytest.raises(ValueError, match=r"query: it is quantised, in torch\.uint8"):
        FedAvg(packed, rule())


@pytest.mark.parametrize("rule", RULES)
def test_another_rule_s_broadcast_is_refused(rule: type[Aggregation], toy_model: Path) -> None:
    backbone = SequenceClassifier(str(toy_model), peft=LoraConfig(target_modules=["query"]))
    module = FedAvg(backbone, rule())
    weights = Payload(backbone.trainable())
    changed = module.aggregate([Update(name, weights, 1) for name in ("a", "b")])
    broadcast = weights.with_parts(changed.parts)
    with pytest.raises(ValueError, match="WeightedAverage does, but changes it"):
        FedAvg(backbone).download(broadcast)
    broken = Payload({"query.P": torch.ones(2, 1)})
    with pytest.raises(ValueError, match=r"`<layer>\.dense`, but holds 'query\.P'"):
        module.download(module.initial_broadcast().with_parts({"base_change": broken}))


def test_flora_s_clients_are_judged_by_what_they_change(models: dict[str, Path]) -> None:
    backbone = backbone_of("several shapes", models)
    module = FedAvg(backbone, FLoRA())
    upload = random_upload(backbone, np.random.default_rng(3))
    zero = {n: torch.zeros_like(p) for n, p in backbone.trainable().items()}
    products = [product("several shapes", layer, upload) for layer in weights_of(backbone)]
    head = [v for n, v in upload.items() if "lora_" not in n]
    expected = np.sqrt(sum((m**2).sum() for m in (*products, *head)))
    sent = Payload({n: torch.tensor(v) for n, v in upload.items()})
    start = Payload({n: v for n, v in zero.items() if "lora_" not in n})
    assert module.update_norm(sent, start) == pytest.approx(expected, rel=1e-10)
    idle = module.upload()
    assert module.update_norm(idle, idle) == 0
