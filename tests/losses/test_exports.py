import importlib
import inspect
import pkgutil

import pytest

import lit_fed.losses
import lit_fed.metrics

LOSSES = [
    "kl_distill",
    "alignment",
    "aggregate_kl",
    "guidance_strength",
    "stability",
    "weight_regularization",
    "soft_predictions",
    "prototype_margin",
    "prototype_cosines",
]


@pytest.fixture(autouse=True, scope="module")
def every_submodule() -> None:
    """Importing a submodule sets its name on the package, where a function of that name has to stay."""
    for package in (lit_fed.losses, lit_fed.metrics):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_function_and_not_the_module_of_its_name(name: str) -> None:
    assert name in lit_fed.losses.__all__
    assert inspect.isfunction(getattr(lit_fed.losses, name))


@pytest.mark.parametrize("package", [lit_fed.losses, lit_fed.metrics], ids=lambda p: p.__name__)
def test_no_export_is_a_module(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert names
    assert not [name for name in names if inspect.ismodule(getattr(package, name))]


@pytest.mark.parametrize(
    "name",
    [
        "SemanticRetentionScore",
        "TaskTransferAccuracy",
        "RepresentationStabilityIndex",
        "GeneralizationUnderShift",
        "ParameterEfficiency",
    ],
)
def test_a_metric_is_a_class(name: str) -> None:
    assert inspect.isclass(getattr(lit_fed.metrics, name))
