"""Entries of a compressed payload: what of a tensor is sent stands beside each other as `<name>/<ending>`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor


def entry_names(name: str, endings: Sequence[str]) -> list[str]:
    """The names under which a tensor's entries are sent.

    Args:
        name: The tensor's.
        endings: What its entries are called.

    Example:
        >>> entry_names("w", ["levels", "scale"])
        ['w/levels', 'w/scale']
    """
    return [f"{name}/{ending}" for ending in endings]


def require_free(names: Collection[str], endings: Sequence[str], kind: str) -> None:
    """Check that no name looks like an entry before there are any.

    Args:
        names: Of an upload's tensors.
        endings: What entries are called.
        kind: The class that compresses.

    Raises:
        ValueError: If one does, as where the same compression stands in ``trainer.attachments`` twice.
    """
    for name in names:
        if name.endswith(tuple(f"/{ending}" for ending in endings)):
            raise ValueError(
                f"{kind} expects no tensor of an upload to be called {name!r}, as its own entries are: is it in "
                "`trainer.attachments` twice?"
            )


def collected(
    tensors: Mapping[str, Tensor], endings: Sequence[str], what: str
) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
    """The tensors that have been sent whole, and the entries of those that have not.

    Args:
        tensors: What was sent.
        endings: What a tensor's entries are called.
        what: How an error calls the upload.

    Returns:
        The first by their names; of the others one tensor per ending, by the name of the tensor that they stand for.

    Raises:
        ValueError: If one of a tensor's entries is missing, or the tensor is there as well.

    Example:
        >>> import torch
        >>> sent = {"n": torch.ones(1), "w/levels": torch.zeros(2), "w/scale": torch.ones(())}
        >>> whole, entries = collected(sent, ["levels", "scale"], "the upload")
        >>> list(whole), list(entries)
        (['n'], ['w'])
    """
    marks = tuple(f"/{ending}" for ending in endings)
    whole = {name: tensor for name, tensor in tensors.items() if not name.endswith(marks)}
    found = sorted({name.rpartition("/")[0] for name in tensors.keys() - whole.keys()})
    entries: dict[str, list[Tensor]] = {}
    for name in found:
        if missing := [one for one in entry_names(name, endings) if one not in tensors]:
            raise ValueError(f"{what} is expected to hold {missing[0]!r}, but it is missing")
        if name in whole:
            raise ValueError(
                f"{what} is expected to hold {name!r} either whole or compressed, but holds both"
            )
        entries[name] = [tensors[one] for one in entry_names(name, endings)]
    return whole, entries
