"""A module of a run that was saved: built from its configuration, with the state of a checkpoint."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning.pytorch import LightningModule

from lit_fed.checkpoint_files import opened, undamaged
from lit_fed.payload import Payload

ENDS: Final = "data.encoding ends of model.{}"
"""What a run's identity calls the tokens that end an answer, by the model."""


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


def global_state(path: Path, method: str) -> tuple[Payload | None, Payload]:
    """The server's state of a checkpoint, None before the first round, and its broadcast.

    Args:
        path: The checkpoint's folder.
        method: The name of the class that is to take them.

    Raises:
        ValueError: If the checkpoint is damaged, or of another method.
    """
    reader = opened(path)
    rounds, saved = undamaged(path, lambda: _round_and_method(reader.state))
    if saved != method:
        raise ValueError(
            f"`module` is expected to be a {saved} as in checkpoint {path}, but is a {method}"
        )
    server, broadcast = (
        undamaged(path, partial(reader.payload, f"{name}.safetensors"))
        for name in ("server", "broadcast")
    )
    return (server if rounds else None), broadcast


def saved_label_names(path: Path) -> list[str]:
    """What the labels of a run's model are called, in their order; none where they are not.

    Args:
        path: The checkpoint's folder.

    Raises:
        ValueError: If the checkpoint is damaged.
    """
    run: dict[str, Any] = undamaged(path, lambda: opened(path).state["run"])
    prefix = "model.backbone.config.id2label."
    names = {
        key.removeprefix(prefix): str(name) for key, name in run.items() if key.startswith(prefix)
    }
    return [names[str(label)] for label in range(len(names)) if str(label) in names]


def saved_ends(path: Path) -> list[int]:
    """The tokens that end an answer in a run's data; none where they say nothing of it.

    Args:
        path: The checkpoint's folder.

    Raises:
        ValueError: If the checkpoint is damaged.
    """

    def ends() -> list[int]:
        return [int(token) for token in opened(path).state["run"].get(ENDS.format("backbone"), [])]

    return undamaged(path, ends)


def _round_and_method(state: dict[str, Any]) -> tuple[int, str]:
    # the first format called the method so
    return int(state["round"]), str(state["run"]["method" if state["format"] == 1 else "model"])
