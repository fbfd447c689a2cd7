"""The page of the aggregation rules, beside what the ledger has counted."""

import re
from pathlib import Path
from typing import Any

import pytest

from lit_fed import FedAvg, aggregation
from lit_fed.aggregation.lora.factors import LoRALayout
from tests.federation.toy import fast_adamw, save_toy_model, toy_backbone, toy_data, toy_trainer
from tests.slow import slow_but

PAGE = Path(__file__).parents[2] / "docs" / "aggregation" / "index.md"
ROWS = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \|", PAGE.read_text("utf-8"), re.M)
FIRST = {tuple(told): (name, *told) for name, *told in reversed(ROWS)}.values()
"""The first rule of each pair of formulas."""
SETTINGS: dict[str, dict[str, Any]] = {
    "Krum": {"num_malicious": 0},
    "MultiKrum": {"num_malicious": 0},
}

GROWTH = {
    "FLoRA": 3 * 4,
    "FedExLoRA": 2 * 4,
}  # of the change's rank in a round of three clients, r = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model", width=16)


def entries(told: str, sizes: dict[str, int], round_number: int) -> int:
    """What the page says of a round, in entries."""
    formulas = told.split(", of ")[0].split(", where ")[0].removesuffix(" by turns").split(", ")
    formula = formulas[round_number % len(formulas)]
    return sum(sizes[term.strip()] for term in formula.split("+") if term.strip() != "0")


def test_all_rules_are_on_the_page() -> None:
    base = {aggregation.Aggregation, aggregation.ServerOptimizer}
    rules = {
        name
        for name in aggregation.__all__
        if isinstance(rule := getattr(aggregation, name), type)
        and issubclass(rule, aggregation.Aggregation)
        and rule not in base
    }
    assert {name for name, _, _ in ROWS} == rules


@pytest.mark.parametrize(
    ("name", "up", "down"), slow_but(*FIRST, of=ROWS), ids=[row[0] for row in ROWS]
)
def test_the_ledger_counts_what_the_page_says(
    name: str, up: str, down: str, model: Path, tmp_path: Path
) -> None:
    rule = getattr(aggregation, name)(**SETTINGS.get(name, {}))
    module = FedAvg(toy_backbone(model), rule, optimizer=fast_adamw)
    layout = LoRALayout.of(module.backbone, name)
    sizes = {"A": 0, "B": 0, "h": 0}
    for parameter, value in module.backbone.trainable().items():
        kind = "A" if parameter in layout.a_names else "B"
        sizes[kind if parameter in layout.names else "h"] += value.numel()
    trainer = toy_trainer(tmp_path, max_rounds=2, clients_per_round=3)
    trainer.fit(module, toy_data())
    weights = [
        (len(factors.b), factors.a.shape[1])
        for factors in layout.factors(module.backbone.trainable()).values()
    ]
    for number, (sent, received) in enumerate(trainer.federation.ledger.rounds):
        rank = GROWTH.get(name, 0) * number
        sizes["Δ"] = sum(min(rank * (out + width), out * width) for out, width in weights)
        assert sent == 3 * 4 * entries(up, sizes, number)
        assert received == 3 * 4 * entries(down, sizes, number)
