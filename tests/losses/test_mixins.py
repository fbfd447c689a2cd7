"""The mixins as the command line sees them: composed with a Lightning module."""

import contextlib
import io

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule

from lit_fed.losses import (
    AggregateKLMixin,
    AlignmentMixin,
    KLDistillMixin,
    PrototypeMarginMixin,
    StabilityMixin,
    WeightRegularizationMixin,
)

DEFAULTS = {
    "lambda_distill": 0.5,
    "temperature": 3.0,
    "lambda_align": 0.01,
    "align_reduction": "sum",
    "align_projector": None,
    "lambda_aggregate": 0.5,
    "gamma": 3.0,
    "center": False,
    "lambda_prototype": 1.0,
    "margin": 0.3,
    "mu": 1.0,
    "stability_on": "probabilities",
    "beta": 0.01,
    "site_weights": None,
    "width": 4,
    "warmup_steps": 500,
}


class Base(LightningModule):
    """Stands for FederatedModule.

    Args:
        width: Of the layer.
        warmup_steps: Of the schedule.
    """

    def __init__(self, width: int = 4, warmup_steps: int = 500) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)
        self.warmup_steps = warmup_steps


class Composed(
    KLDistillMixin,
    AlignmentMixin,
    AggregateKLMixin,
    PrototypeMarginMixin,
    StabilityMixin,
    WeightRegularizationMixin,
    Base,
):
    """A method with every loss."""


def parser() -> ArgumentParser:
    made = ArgumentParser(exit_on_error=False)
    made.add_subclass_arguments(Base, "model")
    return made


def test_every_argument_is_listed_once_with_its_default_and_its_meaning() -> None:
    made = ArgumentParser()
    made.add_class_arguments(Composed, "model")
    defaults = {
        key.removeprefix("model."): value
        for key, value in vars(made.get_defaults().as_flat()).items()
    }
    assert defaults == DEFAULTS
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        parser().parse_args([f"--model.help={__name__}.Composed"])
    for name in DEFAULTS:
        assert f"--model.{name}" in text.getvalue()
    for meaning in (
        "λ₁ ≥ 0",
        "λ₂ ≥ 0",
        "λ₃ ≥ 0",
        "γ ≥ 0",
        "T > 0",
        "μ ≥ 0",
        "β ≥ 0",
        "λ_i of the sites",
    ):
        assert meaning in text.getvalue()


def test_a_composed_method_is_built_from_settings() -> None:
    settings = {
        "class_path": f"{__name__}.Composed",
        "init_args": {
            "lambda_distill": 0.2,
            "temperature": 2.0,
            "center": True,
            "align_projector": {
                "class_path": "torch.nn.Linear",
                "init_args": {"in_features": 4, "out_features": 8},
            },
            "site_weights": {"attention": 0.5},
            "width": 3,
        },
    }
    made = parser()
    model = made.instantiate_classes(made.parse_object({"model": settings})).model
    assert isinstance(model, Composed)
    assert (model.lambda_distill, model.temperature, model.site_weights) == (
        0.2,
        2.0,
        {"attention": 0.5},
    )
    assert model.layer.in_features == 3
    assert isinstance(model.align_projector, torch.nn.Linear)
    buffers = [name for name, _ in model.named_buffers()]
    assert buffers == ["running_deviation.mean", "running_deviation.count"]


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="lambda_distil"):
        Composed(lambda_distil=1.0)


def test_no_mixin_brings_a_hook_or_a_second_loss() -> None:
    for mixin in Composed.__mro__[1 : Composed.__mro__.index(Base)]:
        public = {n for n in vars(mixin) if not n.startswith("_")}
        assert all(name.endswith("_loss") for name in public)
        assert len(public) <= 1
        assert not public & set(dir(LightningModule))
