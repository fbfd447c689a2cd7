"""Several batches of one step are one large batch, whatever their terms are means over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.functional import cross_entropy as torch_cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from lit_fed import DDG, FedAvg, FederatedModule, Payload
from lit_fed.data import CausalLMEncoding, ClassificationEncoding, IIDPartitioner
from lit_fed.federation import ClientExecution, SequentialClients, VectorizedClients
from lit_fed.federation.client.accumulation import Accumulation
from lit_fed.losses import counted_means, cross_entropy, masked_mean
from lit_fed.methods.ddg import PublicConsensus
from tests.federation.execution.agreement import largest_difference, run, sgd
from tests.federation.toy import toy_data, toy_rows
from tests.methods.toy_methods import (
    WORDS,
    classify,
    continue_text,
    lm_data,
    lm_rows,
    save_sober_model,
    save_toy_lm,
)
from tests.slow import slow_but

EXACT = 1e-10
EXECUTIONS: dict[str, Callable[[], ClientExecution]] = {
    "sequential": SequentialClients,
    "vectorized": lambda: VectorizedClients(2),
}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2, which is in double precision throughout; Llama norms in float32."""
    folder = save_toy_lm(tmp_path_factory.mktemp("toy") / "lm")
    torch.manual_seed(0)
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    size = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.2}
    config = GPT2Config(vocab_size=len(WORDS), bos_token_id=2, eos_token_id=2, **size, **dropout)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def weighted(rows: Dataset) -> Dataset:
    return rows.add_column("importance", [0.25 * (1 + i % 7) for i in range(len(rows))])


def steps_of(
    module: Callable[[int], FederatedModule],
    data: Callable[..., Any],
    folder: Path,
    execution: ClientExecution,
    rows_of_a_batch: int,
    **settings: Any,
) -> Any:
    """Two rounds of two steps each, over all rows of a client, of which there are 7 and 6."""
    given = {
        "gradient_clip_val": 0.5,
        "local_epochs": 2,
        "accumulate_grad_batches": -(-7 // rows_of_a_batch),
        "enable_progress_bar": False,
        "callbacks": [],
    }
    rows = {"num_clients": 2, "partitioner": IIDPartitioner(), "batch_size": rows_of_a_batch}
    return run(
        module(rows_of_a_batch), data(**rows), folder, execution, **given | settings
    ).broadcast


def lm(**settings: Any) -> Any:
    encoding = CausalLMEncoding(
        template="text : {text} is : {answer}", response="answer", weight="importance"
    )
    rows = {
        "train": weighted(lm_rows(13, 0)),
        "validation": None,
        "test": None,
        "validation_fraction": 0.0,
    }
    return lm_data(**rows | {"public": weighted(lm_rows(7, 3)), "encoding": encoding} | settings)


def classes(**settings: Any) -> Any:
    encoding = ClassificationEncoding(text="text", text_pair=None, weight="importance")
    rows = {
        "train": weighted(toy_rows(13, 0)),
        "validation": None,
        "test": None,
        "validation_fraction": 0.0,
    }
    return toy_data(**rows | {"public": weighted(toy_rows(7, 3)), "encoding": encoding} | settings)


def ddg(make: Any, model: Path) -> Callable[[int], FederatedModule]:
    """All four terms, whose means are over tokens, rows and the public rows' tokens."""

    def module(batch: int) -> FederatedModule:
        consensus = PublicConsensus(batch_size=batch)
        terms = {"lambda_distill": 0.7, "lambda_align": 2.0, "lambda_aggregate": 0.9}
        made: FederatedModule = make(DDG, model, optimizer=sgd, consensus=consensus, **terms)
        return made

    return module


@pytest.mark.parametrize(
    ("method", "kind", "execution", "batch"),
    slow_but(
        ("FedAvg", "classifier", "sequential", 2),
        ("DDG", "language model", "vectorized", 3),
        ("DDG", "classifier", "vectorized", 2),
        of=product(["FedAvg", "DDG"], ["classifier", "language model"], EXECUTIONS, [2, 3]),
    ),
)
def test_small_batches_are_one_large_batch(
    method: str,
    kind: str,
    execution: str,
    batch: int,
    classifier: Path,
    language_model: Path,
    tmp_path: Path,
) -> None:
    make, model, data, rows = (
        (classify, classifier, classes, toy_rows)
        if kind == "classifier"
        else (continue_text, language_model, lm, lm_rows)
    )
    module = ddg(make, model) if method == "DDG" else lambda _: make(FedAvg, model, optimizer=sgd)
    # as many public rows as own ones, so that both see the same of them
    alike = {"train": weighted(rows(14, 0))} if method == "DDG" else {}
    given = partial(data, **alike)
    large = steps_of(module, given, tmp_path / "large", EXECUTIONS["sequential"](), 7)
    small = steps_of(module, given, tmp_path / "small", EXECUTIONS[execution](), batch)
    start = module(batch).backbone.trainable()
    assert largest_difference(large, Payload(start)) > 1e-3
    assert largest_difference(small, large) < EXACT


class Plain(FedAvg):
    """Knows nothing of this package's means; says over how much its loss is one, or does not."""

    says = False

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        student = self(batch)
        loss = torch_cross_entropy(student.logits[student.mask], student.targets[student.mask])
        return {"loss": loss, "weight": int(student.mask.sum())} if self.says else loss


class Saying(Plain):
    says = True


@pytest.mark.parametrize("execution", slow_but("vectorized", of=EXECUTIONS))
def test_a_module_may_say_over_how_much_its_loss_is_a_mean(
    execution: str, language_model: Path, tmp_path: Path
) -> None:
    """One that says nothing gets the mean of the batches' means, as in Lightning."""

    def module(method: type[FedAvg]) -> Callable[[int], FederatedModule]:
        return lambda _: continue_text(method, language_model, optimizer=sgd)

    settings = {"max_rounds": 1}
    once = EXECUTIONS[execution]
    large = steps_of(module(Plain), lm, tmp_path / "large", once(), 7, **settings)
    said = steps_of(module(Saying), lm, tmp_path / "said", once(), 2, **settings)
    unsaid = steps_of(module(Plain), lm, tmp_path / "unsaid", once(), 2, **settings)
    assert largest_difference(said, large) < EXACT
    assert largest_difference(unsaid, large) > 1e-4


# ---------------------------------------------------------------- terms by themselves

Step = Callable[[nn.Linear, Tensor, Tensor, Tensor], Tensor]


def _two_terms(model: nn.Linear, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Over tokens, and over rows by their own weights."""
    logits = model(x)
    rows = masked_mean(logits.square().mean((1, 2)), None, x[:, 0, 0].abs())
    return cross_entropy(logits, y, mask) + 0.3 * masked_mean(logits.sin()[..., 0], mask) + rows


def _with_a_penalty(model: nn.Linear, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """What is no mean is the same for each batch, as a distance to the global model is."""
    return _two_terms(model, x, y, mask) + 0.1 * model.weight.square().sum()


def _one_with_a_penalty(model: nn.Linear, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    return cross_entropy(model(x), y, mask) + 0.1 * model.weight.square().sum()


def _one_that_is_not_used(model: nn.Linear, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    masked_mean(model(x).square()[..., 0])
    return cross_entropy(model(x), y, mask)


@pytest.mark.parametrize(
    "step", [_two_terms, _with_a_penalty, _one_with_a_penalty, _one_that_is_not_used]
)
def test_each_term_is_a_mean_over_all_batches(step: Step) -> None:
    draw = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 5).double()
    x = torch.randn(9, 6, 4, generator=draw, dtype=torch.float64)
    y = torch.randint(0, 5, (9, 6), generator=draw)
    mask = torch.rand(9, 6, generator=draw) < 0.5
    mask[2:4] = False  # a batch that has nothing to learn from
    parameters = list(model.parameters())
    expected = torch.autograd.grad(step(model, x, y, mask), parameters)
    accumulation = Accumulation(parameters)
    for rows in (slice(2, 4), slice(0, 2), slice(4, 8), slice(8, 9)):
        with counted_means() as means:
            loss = step(model, x[rows], y[rows], mask[rows])
        for number, share in enumerate(accumulation.shares(loss, means, None, 4)):
            with accumulation.gradient(number):
                share.backward(retain_graph=True)
    accumulation.finish()
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-14)


def test_a_weight_that_is_no_number_is_named() -> None:
    weight = torch.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match="`weight` of what training_step returns is expected"):
        Accumulation([weight]).shares(weight.sum(), [], torch.ones(2), 2)
