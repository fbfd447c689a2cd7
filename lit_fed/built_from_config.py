"""Building a module again from the configuration that its run has saved."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule


def built_from_config(path: Path, kind: type[LightningModule]) -> LightningModule:
    """The module that a run's ``config.yaml`` describes, as it was before training.

    The file is read as data, and what it names is built only if it is a subclass of ``kind``. Random numbers
    are drawn as by the run, and nobody else's are changed.

    Args:
        path: The file.
        kind: What the module has to be.

    Raises:
        ValueError: If it cannot be read, or describes no such module.
    """
    import yaml
    from jsonargparse import ArgumentError
    from lightning.pytorch.cli import LightningArgumentParser
    from lightning.pytorch.utilities.seed import isolate_rng

    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(kind, "model", subclass_mode=True)
    try:
        config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        parsed = parser.parse_object({"model": config["model"]})
    except (OSError, KeyError, TypeError, yaml.YAMLError, ArgumentError) as error:
        lines = " ".join(str(error).split())
        raise ValueError(
            f"{path} is expected to describe a {kind.__name__}, but: {lines}"
        ) from error
    with isolate_rng():
        seed = int(config.get("seed_everything") or 0)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        module: LightningModule = parser.instantiate_classes(parsed).model
    return module
