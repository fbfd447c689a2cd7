"""The private gradient of a step: each row's own, bounded, added up, with noise."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# what Opacus leaves on modules; what it leaves on parameters it takes away itself
_LEFT_ON_MODULES = ("activations", "max_batch_len", "ft_compute_sample_grad")


class PrivateGradient:
    r"""Makes the gradients of an optimizer's parameters those of DP-SGD, after each backward pass.

    .. math::
        \tilde g = \sum_{i} \frac{g_i}{\max(1, \lVert g_i \rVert / C)} + \mathcal{N}(0, \sigma^2 C^2 I)

    Abadi et al., "Deep Learning with Differential Privacy", 2016, Algorithm 1, https://arxiv.org/abs/1607.00133, by
    Opacus: hooks on the modules that train take the gradient g_i of each row, over all parameters together and over
    all terms of the loss. What is not divided here is divided in the loss, see
    :func:`~lit_fed.losses.sums_over_rows`.

    The hooks see passes of modules in training whose graph is kept; :meth:`close` takes them off.

    Args:
        module: Holds the parameters.
        optimizer: Moves them.
        max_grad_norm: C > 0.
        noise_multiplier: σ, at least 0.
        generator: What noise is drawn from, on the parameters' device.
        secure_mode: Whether noise is made of several draws, which hides what the rounding of a single one tells
            (Holohan and Braghin, 2021, https://arxiv.org/abs/2107.10138).

    Raises:
        ValueError: If a module that trains has buffers, such as running statistics, or takes anything but one tensor of
            rows.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        max_grad_norm: float,
        noise_multiplier: float,
        generator: torch.Generator,
        secure_mode: bool = False,
    ) -> None:
        from opacus.optimizers import DPOptimizer

        from lit_fed.privacy.row_hooks import RowHooks

        self._module = module
        self._names = {id(p): name for name, p in module.named_parameters()}
        moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, part in module.named_modules():
            if any(p.requires_grad and id(p) in moved for p in part.parameters(recurse=False)):
                _require_one_input(name, part)
        try:
            self._hooks = RowHooks(module, loss_reduction="sum", strict=True)
        except NotImplementedError as error:
            raise ValueError(
                "`trainer.privacy` expects modules that train to have no buffers, whose values could come from several "
                f"rows, but {_first_with_buffers(module)} has some"
            ) from error
        self._optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=None,
            loss_reduction="sum",
            generator=generator,
            secure_mode=secure_mode,
        )

    @property
    def parameters(self) -> list[Any]:
        """What the optimizer moves."""
        return list(self._optimizer.params)

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Within the block backward passes are not of the rows' loss."""
        self._hooks.disable_hooks()
        try:
            yield
        finally:
            self._hooks.enable_hooks()

    def rows(self, count: int) -> dict[str, Tensor]:
        """The gradients g_i of the last backward pass, [count, …] each, by the parameters' names.

        Args:
            count: How many rows the batch had.

        Raises:
            ValueError: If a parameter's are not there or are not the rows'.
        """
        found = {}
        for parameter in self.parameters:
            name = self._names.get(id(parameter), "a parameter")
            sample = parameter.grad_sample if count else parameter.new_zeros(0, *parameter.shape)
            unused = parameter._forward_counter
            if sample is None or unused:
                raise ValueError(
                    f"`trainer.privacy` expects every row's loss to depend on each of the weights that train, but on "
                    f"{name!r} it does {'in a part of its passes only' if unused else 'not'}"
                )
            if isinstance(sample, list) or sample.shape != (count, *parameter.shape):
                came = "those of several passes" if isinstance(sample, list) else list(sample.shape)
                raise ValueError(
                    f"`trainer.privacy` expects the gradients of {count} rows of the weights that train, but of "
                    f"{name!r} there are {came}: its module gets something else than a row of the batch in each place"
                )
            # bounded as exactly as weights are kept
            found[name] = parameter.grad_sample = sample.to(parameter.dtype)
        return found

    def take(self, count: int, drawn: bool = True) -> None:
        """Make the gradients private; those that the backward pass has made are replaced.

        Args:
            count: How many rows the batch had. 0: there was no pass, and the gradient is noise alone.
            drawn: Whether the rows were drawn. False: they stand in where none was, and count for nothing.

        Raises:
            ValueError: As for :meth:`rows`.
        """
        for parameter, rows in zip(self.parameters, self.rows(count).values(), strict=True):
            if not drawn:
                parameter.grad_sample = rows[:0]
        self._optimizer.clip_and_accumulate()
        self._optimizer.add_noise()
        for parameter in self.parameters:
            parameter.grad_sample = parameter.summed_grad = None

    def close(self) -> None:
        """Leave the module as it was."""
        self._hooks.cleanup()
        for parameter in self.parameters:
            if hasattr(parameter, "summed_grad"):
                del parameter.summed_grad
        for part in self._module.modules():
            for name in _LEFT_ON_MODULES:
                if name in vars(part):
                    delattr(part, name)


def _require_one_input(name: str, part: nn.Module) -> None:
    """Check that a module with weights of its own is called with one tensor, of which its gradients can be told."""
    needed = [
        one
        for one in inspect.signature(part.forward).parameters.values()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    called = type(part).forward is not nn.Module.forward
    if not called or len(needed) > 1:
        raise ValueError(
            "`trainer.privacy` expects weights that train to be those of modules which are called with one tensor of "
            f"rows, as linear layers are in LoRA and in bottleneck adapters, but {name!r} is a {type(part).__name__}"
        )


def _first_with_buffers(module: nn.Module) -> str:
    """The name of a module that trains and has buffers."""
    for name, part in module.named_modules():
        own = [p for p in part.parameters(recurse=False) if p.requires_grad]
        if own and next(part.buffers(), None) is not None:
            return repr(name or type(part).__name__)
    return "one"
