"""Where the embedded backbones are kept once they are made."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.fabric.utilities.rank_zero import rank_zero_info, rank_zero_warn

from lit_fed.backbones.embedded.recipe import Kind, Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_REPORT = "pretraining.json"
_MANIFEST = "manifest.json"


def embedded_model(kind: Kind, recipe: Recipe | None = None) -> Path:
    """The folder of an embedded backbone in Hugging Face format, made on first use.

    It has the configuration, weights (safetensors) and tokenizer that ``from_pretrained`` of the Auto classes
    loads, and ``pretraining.json`` with the recipe, the seconds it took, and the loss on held-out
    public pairs before and after. The encoder comes with its pooler, so that in a sequence classifier only
    the classifier itself is new.

    Pre-training uses the translations of the embedded data's public split, without labels. The same recipe
    gives the same bytes on the same machine; the caller's random state, threads and torch settings stay as
    they are. Folders lie under ``$LIT_FED_CACHE``, else ``~/.cache/lit_fed``, by a digest of the recipe,
    the code and the versions of torch and transformers. They are written under a temporary name, renamed
    when complete, and checked by their digests when used; processes that need the same one wait for the
    first to make it.

    Args:
        kind: ``encoder`` (BERT) or ``decoder`` (Llama).
        recipe: Another recipe than the default one of that kind.

    Raises:
        ValueError: If ``kind`` is neither, or not the recipe's.

    Example:
        >>> folder = embedded_model("encoder", Recipe("encoder", pairs=40, held_out=8, steps=2))
        >>> sorted(file.name for file in folder.iterdir() if file.suffix == ".safetensors")
        ['model.safetensors']
    """
    if kind not in _DEFAULTS:
        raise ValueError(f"kind is expected to be one of {tuple(_DEFAULTS)}, but got {kind!r}")
    recipe = recipe or _DEFAULTS[kind]
    if recipe.kind != kind:
        raise ValueError(
            f"recipe is expected to be of kind {kind!r}, but got one of {recipe.kind!r}"
        )
    cache = Path(os.environ.get("LIT_FED_CACHE") or Path.home() / ".cache" / "lit_fed").expanduser()
    folder = cache / "embedded" / f"{kind}-{recipe.key()}"
    if _complete(folder):
        return folder

    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if _complete(folder):
            return folder
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _make(temporary, recipe)
            if folder.exists():
                rank_zero_warn(f"{folder} is damaged or incomplete and is made anew")
                shutil.rmtree(folder)
            temporary.chmod(0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


_DEFAULTS: dict[Kind, Recipe] = {
    "encoder": Recipe("encoder"),
    "decoder": Recipe("decoder", steps=250),
}


def _make(folder: Path, recipe: Recipe) -> None:
    from lit_fed.backbones.embedded.corpus import read_corpus
    from lit_fed.backbones.embedded.decoder import pretrain_decoder
    from lit_fed.backbones.embedded.encoder import pretrain_encoder
    from lit_fed.backbones.embedded.training import isolated

    rank_zero_info(f"Pre-training the embedded {recipe.kind} once, for {folder.parent}")
    start = time.perf_counter()
    corpus = read_corpus(recipe)
    model: PreTrainedModel
    with isolated(recipe.seed):
        if recipe.kind == "encoder":
            model, losses = pretrain_encoder(corpus, recipe)
        else:
            model, losses = pretrain_decoder(corpus, recipe)
    seconds = round(time.perf_counter() - start, 1)
    with _without_progress_bar():
        model.save_pretrained(folder)
    corpus.tokenizer.save_pretrained(folder)
    report = {"recipe": asdict(recipe), "seconds": seconds, "held_out_loss": losses}
    (folder / _REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    manifest = {file.name: _digest(file) for file in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    change = ", ".join(
        f"{name} {value:.2f} -> {losses['after'][name]:.2f}"
        for name, value in losses["before"].items()
    )
    rank_zero_info(f"Pre-trained in {seconds} s; held-out loss in nats: {change}")


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _complete(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest) and all(
            _digest(folder / name) == known for name, known in manifest.items()
        )
    except (OSError, ValueError, AttributeError):
        return False


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
