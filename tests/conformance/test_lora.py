"""The conformance suite for LoRA: right rules hold, wrong ones are caught by the case that names their fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch

from lit_fed.aggregation import (
    Aggregation,
    CoordinateMedian,
    FedAvgM,
    FedExLoRA,
    FedSALoRA,
    FFALoRA,
    FlexLoRA,
    FLoRA,
    Krum,
    LocalOnly,
    MultiKrum,
    RoLoRA,
    WeightedAverage,
)
from lit_fed.conformance import (
    AggregationSubject,
    Judgement,
    LoRACase,
    LoRARound,
    RuleSubject,
    judge,
    lora_cases,
)
from lit_fed.conformance.command import main, subject_of
from tests.conformance.wrong_rules import RIGHT, WRONG, exact, first_client, naive, scaled_twice
from tests.slow import slow_but

CASES = {case.name: case for case in lora_cases()}
MIXED = {"mixed ranks", "mixed alpha"}


@cache
def rounds(name: str) -> LoRARound:
    return CASES[name].round()


@dataclasses.dataclass(frozen=True)
class Kept(LoRACase):
    """A case whose round is made once."""

    def round(self) -> LoRARound:
        return rounds(self.name)


def of(name: str, rule: Callable[[LoRARound], Any]) -> Judgement:
    return judge(Kept(**vars(CASES[name])), RuleSubject(rule))


def test_names_are_those_of_the_issue() -> None:
    assert len(CASES) == len(lora_cases()) == 15
    assert set(WRONG.values()) | {"different clients"} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_right_rules_hold(name: str) -> None:
    assert of(name, exact).verdict == "exact"
    assert of(name, exact).distance < (1e-2 if name == "bfloat16" else 1e-10)
    for kind in ("residual", "naive"):
        if name not in MIXED:
            assert of(name, RIGHT[kind]).holds
    assert of(name, RIGHT["truncated"]).holds
    apart = {"one client", "equal clients", *MIXED}
    assert (of(name, naive).verdict == "mean of factors") == (name not in apart)


@pytest.mark.parametrize("rule", WRONG, ids=lambda rule: rule.__name__)
def test_wrong_rules_are_caught_by_the_case_that_names_their_fault(
    rule: Callable[[LoRARound], Any],
) -> None:
    judged = of(WRONG[rule], rule)
    assert judged.wrong, judged
    assert CASES[WRONG[rule]].meaning in judged.said
    # where its fault does not show it is right, but for a scale that is wrong everywhere
    assert any(of(name, rule).holds for name in CASES) == (rule is not scaled_twice)


def test_the_answer_is_pefts_own() -> None:
    """Σ w s B A, with peft's product of each client, in the shape in which the weight is stored."""
    for case in (CASES["transposed layers"], CASES["rank-stabilised"], CASES["mixed ranks"]):
        given, expected = case.round(), {}
        for client, (rank, alpha) in enumerate(zip(case.ranks, case.alphas, strict=True)):
            backbone = case.backbone(rank, alpha)
            held = backbone.trainable()
            with torch.no_grad():
                for name, value in given.updates[client].items():
                    held[name].copy_(value)
            for layer, module in backbone.model.named_modules():
                if layer in given.layers:
                    delta: Any = module
                    change = delta.get_delta_weight("default") * given.weights[client]
                    expected[f"{layer}.weight"] = expected.get(f"{layer}.weight", 0) + change
        found = given.result({n: t.detach() for n, t in expected.items()})
        assert found.distance(given.exact()) < 1e-12


# What each rule claims, and whether it takes clients of different ranks and alphas.
CLAIMS: dict[type[Aggregation], tuple[str, bool]] = {
    WeightedAverage: ("mean of factors", False),
    FedAvgM: ("mean of factors", False),
    FlexLoRA: ("nearest of its rank", True),
    FLoRA: ("exact", True),
    FedExLoRA: ("exact", False),
    FFALoRA: ("exact", False),
    RoLoRA: ("exact", False),
}


@pytest.mark.parametrize(
    ("name", "rule"),
    slow_but(
        *product(CASES, (WeightedAverage, FlexLoRA, FLoRA)),
        *product(["different clients", "weights 3 : 1", "mixed ranks"], CLAIMS),
        of=product(CASES, CLAIMS),
    ),
)
def test_rules_of_this_package_hold(rule: type[Aggregation], name: str) -> None:
    judged = judge(CASES[name], AggregationSubject(rule))
    claim, mixes = CLAIMS[rule]
    if name in MIXED and not mixes:
        assert judged.verdict == "not offered"
    else:
        assert judged.verdict in (claim, "exact")
        assert judged.holds


@pytest.mark.parametrize("rule", [LocalOnly, FedSALoRA])
def test_a_rule_without_a_global_model_offers_nothing(rule: type[Aggregation]) -> None:
    judged = judge(CASES["one client"], AggregationSubject(rule))
    assert (judged.verdict, judged.said) == (
        "not offered",
        f"{rule.__name__} makes no global model",
    )


def test_a_rule_that_needs_more_clients_than_a_case_has_does_not_offer_it() -> None:
    judged = judge(CASES["different clients"], AggregationSubject(Krum))
    assert (judged.verdict, judged.said) == (
        "not offered",
        "Krum expects at least 5 clients in a round, and the case has 3",
    )
    few = AggregationSubject(MultiKrum, num_malicious=0)  # 3 clients
    assert judge(CASES["weights 3 : 1"], few).verdict == "not offered"
    assert judge(CASES["different clients"], few).verdict == "nearest of its rank"
    # of any number of clients, and no mean where there are more than two
    median = AggregationSubject(CoordinateMedian)
    assert judge(CASES["one client"], median).holds
    assert judge(CASES["different clients"], median).verdict == "no"


def test_a_rule_of_this_package_that_is_wrong_is_caught() -> None:
    class Twice(WeightedAverage):
        def __call__(self, updates: Any, previous: Any) -> Any:
            return super().__call__([updates[0], *updates], previous)

    judged = judge(CASES["different clients"], AggregationSubject(Twice))
    assert judged.verdict == "no"
    uneven = AggregationSubject(WeightedAverage, weights="uniform")
    assert judge(CASES["weights 3 : 1"], uneven).verdict == "no"


def test_what_depends_on_the_order_alone_is_wrong() -> None:
    calls = iter([exact, naive])  # the second call has the other order
    judged = of("different clients", lambda given: next(calls)(given))
    assert (judged.verdict, judged.said) == ("no", "it depends on the order of clients")


def test_what_is_no_result_is_an_error() -> None:
    given = rounds("a head")
    right = exact(given)
    layer = given.layers[0]
    for change, said in (
        ({"more": torch.ones(1)}, "but returned 'more'"),
        ({f"{layer}.weight": torch.ones(3, 3)}, r"weight's shape \[8, 8\], but got \[3, 3\]"),
        ({f"{layer}.lora_A.weight": torch.ones(3, 3)}, "factors of .* are expected"),
        ({f"{layer}.weight": torch.full((8, 8), torch.nan)}, "finite numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            given.result(right | change)
    with pytest.raises(ValueError, match="returned neither"):
        given.result({n: t for n, t in right.items() if n != f"{layer}.weight"})
    with pytest.raises(TypeError, match="tensors by their names, but returned list"):
        given.result([1])  # type: ignore[arg-type]


def test_one_factor_alone_is_beside_the_one_before() -> None:
    given = rounds("one client")
    name = f"{given.layers[0]}.lora_B.weight"
    b = torch.ones_like(given.updates[0][name])
    found = given.result(exact(given) | {name: b}).changes[given.layers[0]]
    more = given.scale * b @ given.previous[name.replace("_B", "_A")].double()
    torch.testing.assert_close(found, given.exact()[given.layers[0]] + more)


class Scaled:
    """A rule that is a class with an argument."""

    def __init__(self, by: float = 1.0) -> None:
        self.by = by

    def __call__(self, given: LoRARound) -> Any:
        return {name: self.by * tensor for name, tensor in exact(given).items()}


def test_the_command_prints_what_holds(capsys: pytest.CaptureFixture[str]) -> None:
    main(["lora", "--rule", "tests.conformance.wrong_rules.exact"])
    assert capsys.readouterr().out.count("exact") >= len(CASES)
    here = f"{Scaled.__module__}.Scaled"
    with pytest.raises(SystemExit) as ended:
        main(["lora", "--rule", here, "--init_args", "{by: 2.0}"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "does not hold: one client, equal clients" in said
    for name in CASES:
        assert name in said


def test_the_command_says_what_it_cannot_find() -> None:
    for rule, said in (
        ("nowhere.rule", "the path of a class or function, but got 'nowhere.rule'"),
        ("rule", "the path of a class or function, but got 'rule'"),
        ("lit_fed.aggregation.Median", "lit_fed.aggregation has no 'Median'"),
        ("tests.conformance.wrong_rules.A", "callable, but got"),
    ):
        with pytest.raises(SystemExit, match=said):
            main(["lora", "--rule", rule])
    for arguments, said in (
        ("{foo: 1}", "FLoRA with {'foo': 1} says: .*unexpected keyword argument 'foo'"),
        ("{weights: sizes}", "expected to be size, uniform, validation or rounds, but got 'sizes'"),
    ):
        with pytest.raises(SystemExit, match=said):
            main(["lora", "--rule", "lit_fed.aggregation.FLoRA", "--init_args", arguments])
    with pytest.raises(SystemExit, match="Aggregation with none says: Can't instantiate abstract"):
        main(["lora", "--rule", "lit_fed.aggregation.Aggregation"])
    with pytest.raises(ValueError, match="for a class alone"):
        subject_of(f"{first_client.__module__}.first_client", {"by": 1})
