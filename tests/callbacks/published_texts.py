"""Texts of TensorBoard's text tab, read back from real event files."""

from __future__ import annotations

import logging
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def published(folder: Path | str, tag: str) -> dict[int, str]:
    """The texts of a tag by their round, of all event files together."""
    texts = {}
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    for path in sorted(Path(folder).rglob("events.out.tfevents*")):
        board = EventAccumulator(str(path), {"tensors": 0}).Reload()
        if f"{tag}/text_summary" in board.Tags()["tensors"]:
            for event in board.Tensors(f"{tag}/text_summary"):
                texts[event.step] = event.tensor_proto.string_val[0].decode("utf-8")
    return texts
