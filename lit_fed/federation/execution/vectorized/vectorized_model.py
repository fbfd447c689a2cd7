"""The resident backbone, serving the passes of several clients at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lit_fed.backbones import Backbone, Prediction
from lit_fed.federation.execution.vectorized.batch_layout import BatchLayout, joined
from lit_fed.federation.execution.vectorized.client_backbone import (
    SWITCHES,
    ClientView,
    ForwardRequest,
    set_switch,
    switched,
)
from lit_fed.federation.execution.vectorized.dropout import ClientDropout
from lit_fed.federation.execution.vectorized.layer_table import vectorized_layers
from lit_fed.federation.execution.vectorized.layers import VectorizedLayer, VectorizedState
from lit_fed.federation.execution.vectorized.output_hooks import output_hook
from lit_fed.federation.execution.vectorized.prompts import vectorized_prompts
from lit_fed.federation.execution.vectorized.random_streams import RandomStreams
from lit_fed.federation.execution.vectorized.vectorizable import (
    CannotVectorize,
    other_sizes,
    require_independent_rows,
)


class VectorizedModel(VectorizedState):
    """A backbone with, for each parameter of its adapters, one tensor of all clients, [n, …].

    A client's own parameter is a view of its part. A vectorized pass puts layers that compute with the
    whole tensors in the place of those of the model, for as long as it takes.

    Args:
        backbone: The resident backbone.
        clients: n, how many run together.
        streams: The clients' random streams.
        changes: Whether clients can change anything of it. False: they have no weights of it of their own, as of a
            frozen teacher.

    Attributes:
        stacks: The tensors, [n, …] each, which take the gradient of all clients.
        places: Where a copy of the backbone has these parameters, as number of the module, and name.

    Raises:
        CannotVectorize: If the backbone has something that cannot be vectorized.
    """

    def __init__(
        self, backbone: Backbone, clients: int, streams: RandomStreams, changes: bool = True
    ) -> None:
        self.backbone = backbone
        self.streams = streams
        self.modules = list(backbone.modules())
        adapters = backbone.adapters if changes else ()
        leaves = {id(p): p for a in adapters for p in backbone.trainable(a).values()}
        self._numbers = {key: number for number, key in enumerate(leaves)}
        self._parameters = list(leaves.values())
        self.stacks = [
            p.detach().expand(clients, *p.shape).clone().requires_grad_() for p in leaves.values()
        ]
        first: dict[int, tuple[int, str]] = {}
        self._holders: list[tuple[nn.Module, str, nn.Parameter]] = []
        for number, module in enumerate(self.modules):
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) in leaves:
                    first.setdefault(self._numbers[id(parameter)], (number, name))
                    self._holders.append((module, name, parameter))
        self.places = [first[number] for number in range(len(leaves))]
        self._absent = {key: nn.Parameter(p.detach().to("meta")) for key, p in leaves.items()}
        self._layers = vectorized_layers(backbone.model, self._numbers)
        self._layer_numbers = {id(layer): numbers for layer, numbers in self._layers}
        self._switched = switched(self.modules)
        self._modes: tuple[Any, ...] = ()
        self._quiet: set[Any] = set()
        self._used: list[set[int]] = [set() for _ in leaves]
        self._grads = b""
        self._cache: dict[int, Tensor] = {}
        config = backbone._peft_config
        prompts = config is not None and config.is_prompt_learning
        self._prompts = (
            vectorized_prompts(backbone.model, self._numbers, self._prompt_leaves)
            if prompts
            else None
        )
        self._taken = other_sizes(backbone)
        require_independent_rows(backbone)

    def own_parameters(self, client: int) -> dict[int, nn.Parameter]:
        """A client's own parameters, by the ids of the resident's."""
        return {
            # `data`: what one client writes in place is nothing that another's graph holds
            id(p): nn.Parameter(stack.data[client], requires_grad=p.requires_grad)
            for p, stack in zip(self._parameters, self.stacks, strict=True)
        }

    # ---------------------------------------------------------------- passes

    def forward(
        self, clients: Sequence[int], requests: Sequence[ForwardRequest]
    ) -> list[Prediction]:
        """Compute passes of one kind together.

        Args:
            clients: Whose they are.
            requests: What they ask for.

        Returns:
            Each client's prediction, of its own rows and tokens.
        """
        for request in requests:
            request.view.require_own_base()
        first = requests[0]
        self._take_modes(first)
        layout, batch = joined(
            clients,
            [request.batch for request in requests],
            self.backbone.tokenizer.pad_token_id or 0,
            self.backbone.virtual_tokens,
            self._taken,
            self.backbone.max_tokens,
        )
        self.layout = layout
        self._grads, self._cache = first.trained, {}
        enabled, dtype = first.autocast
        device = first.batch["input_ids"].device.type
        default = torch.get_default_dtype()
        torch.set_default_dtype(first.default_dtype)
        try:
            with (
                torch.set_grad_enabled(first.grad),
                torch.autocast(device, dtype=dtype, enabled=enabled),
                self._installed(),
                self._hooked([request.view for request in requests]),
                self._drawing(first),
            ):
                prediction = self.backbone(batch, output_hidden=first.output_hidden)
        except (NotImplementedError, RuntimeError) as error:
            if re.search(r"\bmeta\b", str(error)):
                raise CannotVectorize(
                    f"a model that reads weights of adapters past their layers ({error})"
                ) from error
            raise
        finally:
            torch.set_default_dtype(default)
        self._cache = {}
        return _predictions(layout, prediction)

    def hand_out_gradients(self, views: Sequence[ClientView], asking: Collection[int]) -> None:
        """Add the gradient of the last backward pass to the clients' own parameters.

        Args:
            views: All clients' views of this backbone.
            asking: The clients that it was for.
        """
        for number, (stack, used) in enumerate(zip(self.stacks, self._used, strict=True)):
            if stack.grad is not None:
                for client, gradient in enumerate(stack.grad.unbind(0)):
                    if client not in used or client not in asking:
                        continue
                    parameter = views[client].parameters[number]
                    if parameter.grad is None:
                        parameter.grad = gradient
                    else:
                        parameter.grad += gradient
                stack.grad = None

    def forget_use(self) -> None:
        """Forget which parameters the passes before have used: they have been differentiated."""
        for used in self._used:
            used.clear()

    # ---------------------------------------------------------------- what layers ask for

    def leaves(self, layer: VectorizedLayer) -> dict[str, Tensor]:
        """See :class:`VectorizedState`."""
        return {name: self._leaf(n) for name, n in self._layer_numbers[id(layer)].items()}

    @contextmanager
    def only(self, place: int) -> Iterator[None]:
        """See :class:`VectorizedState`."""
        before, cache = self.layout, self._cache
        self.layout, self._cache = before.only(place), {}
        try:
            yield
        finally:
            self.layout, self._cache = before, cache

    def _prompt_leaves(self, numbers: Sequence[int]) -> list[Tensor]:
        return [self._leaf(number) for number in numbers]

    def _leaf(self, number: int) -> Tensor:
        """A parameter of the clients of the part that runs at the moment, [K, …]."""
        if number not in self._cache:
            stack, clients = self.stacks[number], self.layout.clients
            if self._grads and self._grads[number]:
                self._used[number].update(clients)
            else:
                stack = stack.detach()
            first = clients[0]
            if clients == tuple(range(first, first + len(clients))):
                leaf = stack if len(clients) == len(stack) else stack[first : first + len(clients)]
            else:
                leaf = stack[list(clients)]
            self._cache[number] = leaf
        return self._cache[number]

    # ---------------------------------------------------------------- making ready

    def _take_modes(self, request: ForwardRequest) -> None:
        """Let the model train or not, and adapters take part, as in a client's copy."""
        if request.modes == self._modes:
            return
        for module, like in zip(self.modules, request.view.modules, strict=True):
            module.__dict__["training"] = like.training
        for module, like in zip(self._switched, request.view.switched, strict=True):
            set_switch(module, like)
        self._modes = request.modes

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Leave the model as it was before the passes within."""
        flags = [module.training for module in self.modules]
        switches: list[dict[str, Any]] = [
            {name: m.__dict__[name] for name in SWITCHES if name in m.__dict__}
            for m in self._switched
        ]
        self._modes = ()
        try:
            yield
        finally:
            for module, flag in zip(self.modules, flags, strict=True):
                module.__dict__["training"] = flag
            for module, state in zip(self._switched, switches, strict=True):
                module.__dict__.update(state)

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """Put the vectorized layers in their places.

        Parameters of the clients' own are taken out of the model, so that a module which would read them
        in another way than through its layer fails instead of reading those of nobody.
        """
        for layer, _ in self._layers:
            layer.module.forward = _bound(layer, self)
        if self._prompts is not None:
            self.backbone.model.get_prompt = self._prompts
        for module, name, parameter in self._holders:
            module._parameters[name] = self._absent[id(parameter)]
        try:
            yield
        finally:
            for module, name, parameter in self._holders:
                module._parameters[name] = parameter
            for layer, _ in self._layers:
                del layer.module.__dict__["forward"]
            if self._prompts is not None:
                del self.backbone.model.__dict__["get_prompt"]

    @contextmanager
    def _hooked(self, views: Sequence[ClientView]) -> Iterator[None]:
        """Let the hooks that clients have on their copies see, and change, their rows of the output."""
        hooked = [view.hooked() for view in views]
        handles = []
        for number in sorted({n for one in hooked for n in one}):
            hook = output_hook(lambda: self.layout, views, number)
            handles.append(self.modules[number].register_forward_hook(hook, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _drawing(self, request: ForwardRequest) -> Iterator[None]:
        """Let each client draw from its own stream, if the model draws at all."""
        modes = self._modes
        if modes in self._quiet:
            before = torch.get_rng_state()
            yield
            if not torch.equal(before, torch.get_rng_state()):
                raise CannotVectorize("a model that draws random numbers in some passes only")
            return
        dropout = ClientDropout(self.streams, lambda: self.layout)
        with dropout:
            yield
        if not dropout.drew and not request.view.hooked():
            self._quiet.add(modes)


def _bound(layer: VectorizedLayer, state: VectorizedState) -> Any:
    return lambda *args, **kwargs: layer(state, args, kwargs)


def _predictions(layout: BatchLayout, vectorized: Prediction) -> list[Prediction]:
    """Each client's part of a vectorized prediction."""
    count = len(layout.clients)
    parts: list[list[Any]] = []
    for value in (
        vectorized.logits,
        vectorized.targets,
        vectorized.mask,
        vectorized.hidden,
        vectorized.attention_mask,
    ):
        blocks = (None,) * count if value is None else value.unflatten(0, (count, -1)).unbind(0)
        own: list[Any] = []
        for block, (rows, tokens) in zip(blocks, layout.sizes, strict=True):
            if block is not None and not layout.even:
                block = block[:rows]
                # Language models' predictions are one shorter.
                if block.dim() > 1 and block.shape[1] in (layout.tokens, layout.tokens - 1):
                    block = block[:, : block.shape[1] - layout.tokens + tokens]
            own.append(block)
        parts.append(own)
    return [Prediction(*fields) for fields in zip(*parts, strict=True)]
