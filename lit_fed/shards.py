"""Tensors of which each process holds a part, as torch's FSDP2 makes them, and whole ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only a part of ``tensor``.

    Example:
        >>> import torch
        >>> is_sharded(torch.zeros(2))
        False
    """
    # not isinstance: importing torch's distributed tensors takes longer than all of a small run's rest
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Of a sharded one every process has to ask for it at the same time.

    Example:
        >>> import torch
        >>> whole(torch.ones(2))
        tensor([1., 1.])
    """
    if not is_sharded(tensor):
        return tensor
    sharded: Any = tensor
    full: Tensor = sharded.full_tensor()
    return full


def placed_like(tensor: Tensor, reference: Tensor) -> Tensor:
    """``tensor``, whole or sharded, on the device and in the shards of ``reference``, of the same shape.

    Example:
        >>> import torch
        >>> placed_like(torch.ones(2), torch.zeros(2))
        tensor([1., 1.])
    """
    if not is_sharded(reference) or is_sharded(tensor):
        return tensor.to(reference.device)
    from torch.distributed.tensor import distribute_tensor

    target: Any = reference
    # Every process has the whole tensor, so nothing needs to be sent.
    return distribute_tensor(
        tensor.to(target.device), target.device_mesh, target.placements, src_data_rank=None
    )
