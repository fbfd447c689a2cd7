"""Upload of an exported folder to the Hugging Face hub, by its own library."""

from __future__ import annotations

import json
import warnings
from pathlib import Path


def upload(folder: Path, name: str, private: bool = True) -> str:
    """Upload a folder to a repository of models, which is made where there is none.

    Args:
        folder: An exported folder.
        name: The repository, ``owner/name``.
        private: Whether one that is made is private.

    Returns:
        The repository's address.

    Raises:
        OSError: If the hub refuses it, there is no token, or the hub cannot be reached.
        ValueError: If it is no name of a repository.
    """
    from huggingface_hub import HfApi

    if (base := _base_folder(folder)) is not None:
        warnings.warn(
            f"the adapter's base model is the folder {base} of this machine, which nobody finds on the hub: `--merge "
            "true` uploads a whole model",
            stacklevel=2,
        )
    api = HfApi(library_name="lit_fed")
    repository = api.create_repo(name, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repository.repo_id, folder_path=folder, commit_message="Upload by lit-fed export"
    )
    return str(repository)


def _base_folder(folder: Path) -> str | None:
    """The folder of an adapter's base model; None where that is a name on the hub, or there is no adapter."""
    config = folder / "adapter_config.json"
    if not config.is_file():
        return None
    base = str(json.loads(config.read_text("utf-8")).get("base_model_name_or_path"))
    return base if Path(base).is_dir() else None
