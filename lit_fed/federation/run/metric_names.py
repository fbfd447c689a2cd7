"""What a metric is called where a logger's store bears less in a name than TensorBoard does."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lightning.fabric.loggers import Logger
from lightning.pytorch.loggers import MLFlowLogger

_NO_NAME_OF_MLFLOW = re.compile(r"[^\w.\- :/]")


def named_for(logger: Logger, metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics by the names under which a logger takes them.

    Args:
        logger: The logger.
        metrics: Values by their names.
    """
    if isinstance(logger, MLFlowLogger):
        return {mlflow_name(name): value for name, value in metrics.items()}
    return dict(metrics)


def mlflow_name(name: str) -> str:
    """A metric's name in MLflow, whose charts are grouped by what stands before the first slash.

    Its store of files keeps a metric as a file, so that ``test/loss`` can be no folder of ``test/loss/unseen_names``.
    Names have letters, digits, and ``_ - . : /`` and spaces alone, and labels of classes may have others.

    Args:
        name: The name elsewhere.

    Example:
        >>> mlflow_name("test/loss"), mlflow_name("test/loss/unseen_names")
        ('test/loss', 'test/loss.unseen_names')
        >>> mlflow_name("server/label_share/5 €")
        'server/label_share.5 u20ac'
    """
    group, slash, rest = name.partition("/")
    whole = group + slash + rest.replace("/", ".")
    return _NO_NAME_OF_MLFLOW.sub(lambda sign: f"u{ord(sign[0]):x}", whole)
