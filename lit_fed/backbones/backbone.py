"""Backbone: the base class of Hugging Face models with a tokenizer and adapters."""

from __future__ import annotations

import inspect
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from lit_fed.backbones.adaptation import adapt, complete_config, require_saved
from lit_fed.backbones.adapter_parameters import held_places, lora_scales
from lit_fed.backbones.adapters import DEFAULT, Adapters, some
from lit_fed.backbones.anatomy import table_ids, table_positions, warn_of_routers
from lit_fed.backbones.folding import Folding, WeightChange
from lit_fed.backbones.identity import backbone_identity
from lit_fed.backbones.master_weights import Change, widening
from lit_fed.backbones.merging import merged_model, require_same
from lit_fed.backbones.padding import find_side, padded, reads_ahead, trial_rows, undisturbed
from lit_fed.backbones.prediction import Prediction
from lit_fed.backbones.pretrained import quiet_transformers
from lit_fed.backbones.stacking import stack_changes, with_adapters
from lit_fed.data.known_ids import require_known_ids
from lit_fed.shards import is_sharded, placed_like, whole

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedTokenizerBase

    from lit_fed.backbones.pretrained import Pretrained


class Backbone(nn.Module, ABC):
    """A Hugging Face model, its tokenizer, and the part of it that is trained.

    With a PEFT configuration the model is frozen and in memory once; further adapters
    (:meth:`add_adapter`) cost no more than their own parameters. Without, all of it is trained.

    Several adapters may be active at once: their changes add up. A head that is trained as a whole
    (PEFT's ``modules_to_save``) cannot add up: that of the first active adapter which has one is used,
    and the others' heads are left as they are.

    Args:
        pretrained: The model and its tokenizer.
        peft: A PEFT configuration, ``lora`` for the default one, or None to train all weights.
        task_type: What peft calls the task, such as ``SEQ_CLS``.
        gradient_checkpointing: Compute activations again in the backward pass instead of keeping them.
        revision: Of the model on the hub, recorded in the adapter.

    Attributes:
        model: The Hugging Face model, in peft's wrapper if there is a configuration.
        tokenizer: The model's tokenizer; it has a padding token, and pads on the side on which padding does not
            change what the model predicts, which is found by trying it with a few tokens.
        auto_class: The class of transformers that loads such a model.
        num_labels: Labels that a classifier knows; None where it does not classify.
        classifies: Whether it gives a text one label, or each token one; None where that is not known.
    """

    auto_class: ClassVar[str] = "AutoModel"
    num_labels: int | None = None
    classifies: bool | None = None

    def __init__(
        self,
        pretrained: Pretrained,
        peft: PeftConfig | Literal["lora"] | None,
        task_type: str,
        gradient_checkpointing: bool,
        revision: str | None,
    ) -> None:
        super().__init__()
        self.tokenizer: PreTrainedTokenizerBase = pretrained.tokenizer
        self.model: Any = pretrained.model
        quantized = getattr(self.model, "is_quantized", False)
        if quantized and peft is None:
            raise ValueError(
                "`model.backbone.peft` is expected to be a PEFT configuration for a quantised model, "
                "whose own weights cannot be trained, but got null"
            )
        config: PeftConfig | None = None
        loaded = held_places(self.model)
        if peft is not None:
            if quantized:
                from peft import prepare_model_for_kbit_training

                prepare_model_for_kbit_training(self.model, use_gradient_checkpointing=False)
            config = complete_config(peft, pretrained, task_type, revision)
            self.model = adapt(self.model, config)
        self._peft_config = config
        self._chat_template: str | None = None
        self._adapters = Adapters(self.model, config, loaded)
        self._folding = Folding(self.model)
        if config is not None:
            require_saved(pretrained.initialised, self.trainable())
        base = self._base
        if gradient_checkpointing:
            if not base.supports_gradient_checkpointing:
                raise ValueError(
                    f"`model.backbone.gradient_checkpointing` is true, but {type(base).__name__} "
                    f"does not support it"
                )
            # The reentrant kind would need embeddings that require a gradient, which frozen ones do not.
            base.gradient_checkpointing_enable({"use_reentrant": False})
        warn_of_routers(self.model, base.config.get_text_config())
        self._accepted = set(inspect.signature(base.forward).parameters) - {"labels", "return_dict"}
        # transformers loads models for evaluation, and Lightning leaves a module as it finds it.
        self.train()

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor], output_hidden: bool = False) -> Prediction:
        """Predict a batch.

        Args:
            batch: ``input_ids`` [B, L] and whatever else the model takes; other fields are left out,
                and labels are not given to the model.
            output_hidden: Whether the prediction has the last hidden state.
        """

    @property
    def label_names(self) -> list[str] | None:
        """The labels' names in the model's configuration; None where it has none but numbers."""
        names: dict[int, str] = getattr(self._base.config, "id2label", None) or {}
        told = [names.get(i, "") for i in range(self.num_labels or 0)]
        return told if told != [f"LABEL_{i}" for i in range(len(told))] and all(told) else None

    def name_labels(self, names: Sequence[str]) -> None:
        """Call the model's first labels so, in its configuration and wherever it is saved.

        Args:
            names: The names, at most as many as there are labels; the others keep theirs.

        Raises:
            ValueError: If there are more names than labels.
        """
        if len(names) > (self.num_labels or 0):
            raise ValueError(
                f"`names` are expected to be at most {self.num_labels}, one a label, but got {list(names)}"
            )
        config = self._base.config
        config.id2label = {**config.id2label, **dict(enumerate(names))}
        config.label2id = {name: label for label, name in config.id2label.items()}

    @property
    def checkpoint(self) -> str:
        """Where the model comes from: a folder, or a name on the hub."""
        return str(self._base.name_or_path)

    @property
    def peft_type(self) -> str | None:
        """What peft calls the method of the adapters, such as ``LORA``; None where all weights train."""
        kind: Any = None if self._peft_config is None else self._peft_config.peft_type
        return None if kind is None else str(getattr(kind, "value", kind))

    @property
    def packs(self) -> bool:
        """Whether it reads several rows in one sequence as if each were alone. Default: no."""
        return False

    def end_with(self, tokens: Sequence[int]) -> None:
        """Take tokens that end an answer, where it generates. Default: nothing."""

    def write_with(self, chat_template: str) -> None:
        """Take the chat template by which rows are written, for the exported tokenizer; the own one stays as it is.

        Args:
            chat_template: Its text.
        """
        self._chat_template = chat_template

    @property
    def trains(self) -> bool:
        """Whether anything of the model trains."""
        return any(parameter.requires_grad for parameter in self.parameters())

    @property
    def max_tokens(self) -> int | None:
        """Tokens that a row may have beside a learnt prompt's; None where positions have no table."""
        positions = table_positions(self._base)
        return None if positions is None else positions - self.virtual_tokens

    @cached_property
    def id_limits(self) -> dict[str, int]:
        """How many ids the model knows, by the fields that it takes: each has to be below."""
        return {k: limit for k, limit in table_ids(self._base).items() if k in self._accepted}

    @property
    def virtual_tokens(self) -> int:
        """Tokens of a learnt prompt; 0 if there is none, or it takes no part."""
        return 0 if self.is_bare else getattr(self._peft_config, "num_virtual_tokens", 0)

    def seen_mask(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """The attention mask of all the tokens that the model's modules see, [B, P + L], None where there is none.

        The P tokens of a learnt prompt come first where they are embedded like others; prefix tuning's are keys and
        values alone.

        Args:
            batch: As for :meth:`forward`.
        """
        mask = batch.get("attention_mask")
        if mask is None or not self.virtual_tokens or _has_keys_and_values(self._peft_config):
            return mask
        return torch.cat([mask.new_ones(len(mask), self.virtual_tokens), mask], dim=1)

    @property
    def is_bare(self) -> bool:
        """Whether no adapter takes part, as within :meth:`using` without names."""
        return bool(getattr(self.model, "_adapters_disabled", False))

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters; ``default`` without a PEFT configuration as well."""
        return self._adapters.names

    @property
    def active_adapters(self) -> tuple[str, ...]:
        """Names of the adapters that take part in the forward pass."""
        return self._adapters.active

    def trainable(self, adapter: str = DEFAULT) -> dict[str, nn.Parameter]:
        """An adapter's parameters, live; without a PEFT configuration those of the whole model.

        Args:
            adapter: The adapter's name.

        Returns:
            Parameters by their names in ``adapter_model.safetensors`` (``model.safetensors``), which
            do not depend on the adapter's name. The exception are prompts that a network computes
            (p-tuning, prefix tuning with a projection), where it is the network's parameters.

        Raises:
            KeyError: If there is no such adapter.
        """
        return self._adapters.parameters(adapter)

    @torch.no_grad()
    def load_trainable(self, state: Mapping[str, Tensor], adapter: str = DEFAULT) -> None:
        """Copy values into an adapter's parameters, or without a PEFT configuration the whole model's.

        Args:
            state: Tensors by the names of :meth:`trainable`, of any device and floating type.
            adapter: The adapter's name.

        Raises:
            KeyError: If there is no such adapter.
            ValueError: If a name is missing or unknown, a shape differs, or a tensor is not floating, such as a
                complex one, of which a part would be lost. Nothing is changed then.
        """
        parameters = self.trainable(adapter)
        if parameters.keys() != state.keys():
            missing, unknown = parameters.keys() - state.keys(), state.keys() - parameters.keys()
            raise ValueError(
                f"`state` is expected to have the {len(parameters)} names of adapter {adapter!r}, but "
                f"{some(missing)} are missing and {some(unknown)} unknown"
            )
        for name, parameter in parameters.items():
            if state[name].shape != parameter.shape:
                raise ValueError(
                    f"`state` is expected to have {name} of shape {list(parameter.shape)}, but got "
                    f"{list(state[name].shape)}"
                )
            if not state[name].is_floating_point():
                raise ValueError(
                    f"`state` is expected to have {name} of a floating dtype, but got {state[name].dtype}"
                )
        for name, parameter in parameters.items():
            parameter.copy_(placed_like(state[name], parameter))

    def add_adapter(self, name: str, config: PeftConfig | None = None, head: bool = True) -> None:
        """Add an adapter, freshly initialised. It is neither active nor trained.

        Args:
            name: Its name.
            config: Its PEFT configuration, of the same kind as the backbone's own; for instance a LoRA of
                another rank. What it leaves open follows from the model. None: the backbone's own.
            head: Whether it has copies of the modules that are trained as a whole
                (``modules_to_save``), such as a classifier's head, as they were before training.

        Raises:
            TypeError: If ``config`` is no PEFT configuration.
            ValueError: If the name is taken, or part of the model's names; if the backbone has no PEFT
                configuration; or if peft cannot have ``config`` beside it: one of another kind, or of
                prompts.
        """
        self._adapters.add(name, config, head)
        self.train(self.training)

    def activate(self, *adapters: str) -> None:
        """Let adapters take part in the forward pass, the others not, and train them.

        Args:
            *adapters: Names, of which the first gives the head.

        Raises:
            KeyError: If there is no such adapter.
            ValueError: If there is none, or there are several of prompts, which do not add up.
        """
        if not adapters:
            raise ValueError("`adapters` is expected to name at least one adapter, but got none")
        self._adapters.select(adapters, adapters)
        self._adapters.active = self._adapters.trained = adapters

    def train_adapter(self, adapter: str) -> None:
        """Train one of the active adapters, and its head if that is the one in use; freeze the others.

        Raises:
            KeyError: If there is no such adapter.
            ValueError: If it is not active.
        """
        active = self.active_adapters
        self._adapters.require(adapter)
        if adapter not in active:
            raise ValueError(
                f"`adapter` is expected to be one of the active ones, {', '.join(active) or 'none'}, but got "
                f"{adapter}"
            )
        self._adapters.select(active, (adapter,))
        self._adapters.trained = (adapter,)

    def freeze(self, names: Collection[str], adapter: str = DEFAULT) -> None:
        """Keep some parameters of an adapter from training, also when it is trained, until called again.

        Args:
            names: Of :meth:`trainable`; all others train when the adapter does.
            adapter: The adapter's name.

        Raises:
            KeyError: If there is no such adapter.
            ValueError: If a name is none of its parameters'.
        """
        self._adapters.freeze(names, adapter)

    @contextmanager
    def using(self, *adapters: str) -> Iterator[None]:
        """Within the block other adapters take part in the forward pass, for instance a frozen teacher.

        All adapters are frozen there; after it all is as before.

        Args:
            *adapters: Their names. None: the bare base, as it was loaded, with what is folded into it (:meth:`fold`).
                Modules that are trained as a whole (``modules_to_save``), such as a classifier's head, are there as
                they were before training.

        Raises:
            KeyError: If there is no such adapter.
            ValueError: If none is named and the backbone has no PEFT configuration, so that its own weights
                are trained.
        """
        adapted = self._adapters
        before = adapted.active
        adapted.select(adapters, ())
        adapted.active = adapters
        try:
            yield
        finally:
            adapted.active = before
            adapted.select(before, adapted.trained)

    @property
    def folded(self) -> Mapping[str, WeightChange]:
        """What is folded into the frozen weights, by the names of peft's layers."""
        return self._folding.changes

    def require_foldable(self, layers: Iterable[str], asks: str) -> None:
        """Refuse layers whose frozen weights cannot be changed; see :meth:`fold`.

        Args:
            layers: Names of peft's layers.
            asks: Which setting asks, for the message.

        Raises:
            ValueError: If a weight is quantised or another module's as well, or the layer is no linear one and no
                embedding.
        """
        self._folding.require(layers, asks)

    def fold(self, changes: Mapping[str, WeightChange]) -> None:
        """Let frozen weights be the loaded ones plus these changes, whatever was folded into them before.

        The loaded weights are kept, in main memory, so that nothing is rounded twice; without a change they are there
        again bit for bit. To fold the same again costs a comparison. :attr:`identity` stays that of the loaded ones,
        and :meth:`save_pretrained` writes an adapter for the loaded model that has the changes in it. What is folded is
        no entry of the ``state_dict``, which holds the weights as they are then.

        Args:
            changes: By the names of peft's layers in the wrapper, as in ``model.get_submodule``; none: the model as it
                was loaded.

        Raises:
            ValueError: If there is no such layer, or a shape is not that of its weight. Nothing is changed then.
        """
        self._folding.fold(changes)

    @contextmanager
    def unfolded(self) -> Iterator[None]:
        """Within the block frozen weights are the loaded ones, whatever is folded into them; see :meth:`fold`."""
        folded = dict(self.folded)
        self.fold({})
        try:
            yield
        finally:
            self.fold(folded)

    def layer_states(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """The hidden states after each layer of the body, [B, L, d] each; of a decoder where there are two.

        Args:
            batch: As for :meth:`forward`.
        """
        output = self._active_model(**self._inputs(batch), output_hidden_states=True)
        states = getattr(output, "decoder_hidden_states", None) or output.hidden_states
        length = batch["input_ids"].shape[1]
        # The first one is the embedding, and virtual tokens of a prompt come first.
        return [state[:, -length:] for state in states[1:]]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides results of the model, by name: frozen weights, configuration, tokenizer and adapter.

        It is told once, before the model is put on devices or divided among them. Weights that train are no
        part of it; of a model of which nothing trains, such as a frozen teacher, all are.
        """
        parameters = dict(self.model.named_parameters())
        changing = {n: p for n, p in parameters.items() if p.requires_grad}
        if changing and self._peft_config is not None:
            # all of the adapters', also what a rule keeps from training at the moment
            adapters = {id(p) for a in self.adapters for p in self.trainable(a).values()}
            changing = {n: p for n, p in parameters.items() if id(p) in adapters}
        with self._folding.lifted():
            told = backbone_identity(
                self.model, self._base.config, self.tokenizer, self._peft_config, changing.values()
            )
        return {"num_labels": self.num_labels, **told}

    @property
    def num_parameters(self) -> int:
        """Parameters of the model with its one ``default`` adapter."""
        further = {id(p) for a in self.adapters if a != DEFAULT for p in self.trainable(a).values()}
        return sum(p.numel() for p in self.model.parameters() if id(p) not in further)

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the weights only."""
        return any(is_sharded(parameter) for parameter in self.trainable().values())

    def save_pretrained(self, folder: Path | None, *adapters: str) -> None:
        """Write an adapter, or without a PEFT configuration the model, and the tokenizer.

        The folder loads with plain ``peft.PeftModel.from_pretrained(base_model, folder)``. Beside the
        adapter it has the base model's configuration, which knows labels and padding token:
        ``AutoConfig.from_pretrained(f"{folder}/model_config.json")``.

        Labels are called there as in the data, so that ``AutoModelForSequenceClassification.from_pretrained(
        base_model, config=AutoConfig.from_pretrained(f"{folder}/model_config.json"))`` under the adapter names what
        it says. One that generates has a ``generation_config.json`` with the tokens that end an answer, and the chat
        template of the data (:meth:`write_with`) among the tokenizer's files.

        Where frozen weights have been changed (:meth:`fold`), the adapter is one for the model as it was loaded:
        factors of the changes beside its own, with ranks of their own in ``rank_pattern``. Several adapters, which have
        to be LoRAs, are written as one likewise, which changes the model as all of them together do.

        Args:
            folder: Where to; made if it is not there. None: nowhere, for the processes of a sharded model
                that do not write; all of them have to call this at the same time.
            *adapters: The adapter's name; or several, of which the first gives the head. None: ``default``.

        Raises:
            KeyError: If there is no such adapter.
            ValueError: If one of several is no LoRA of the layers of the first.
        """
        adapter, *others = adapters or (DEFAULT,)
        self._adapters.require(adapter, *others)
        changes = with_adapters(self.model, self.folded, {n: self.trainable(n) for n in others})
        # A file holds whole tensors; peft and transformers would write this process's part.
        values: dict[str, Tensor] | None = None
        if self.is_sharded:
            saved = {id(p) for p in self.trainable(adapter).values()}
            live: dict[str, Tensor] = self.model.state_dict(keep_vars=True)
            values = {n: whole(t.detach()) if id(t) in saved else t for n, t in live.items()}
        if folder is None:
            return
        folder = Path(folder)
        with quiet_transformers():
            if self._peft_config is None:
                self.model.save_pretrained(folder, state_dict=values)
            else:
                # Embeddings are never resized, and to find that out peft would ask the hub.
                self.model.save_pretrained(
                    str(folder),
                    selected_adapters=[adapter],
                    save_embedding_layers=False,
                    state_dict=values,
                )
                if adapter != DEFAULT:
                    for file in (folder / adapter).iterdir():
                        file.replace(folder / file.name)
                    (folder / adapter).rmdir()
                if changes:
                    stack_changes(folder, lora_scales(self.model, adapter), changes)
                # As `config.json`, transformers would look for the whole model beside it.
                self._base.config.to_json_file(folder / "model_config.json")
            self._save_generation(folder)
            with self._tokenizer_for_export():
                self.tokenizer.save_pretrained(folder)

    def save_merged(self, folder: Path, *adapters: str) -> None:
        """Write the whole model with adapters merged into its weights, and the tokenizer.

        The folder loads with plain ``from_pretrained`` of transformers, without peft and without the base model, and
        predicts what this model does with these adapters, within rounding, which is tried with two short rows. Weights
        of 16 bits are rounded once more; a quantised model is loaded with whole weights before. What is there as it
        was loaded stays as it is, for which the base is loaded a second time.

        Args:
            folder: Where to; made if it is not there.
            *adapters: The adapter's name; or several, of which the first gives the head. None: ``default``.

        Raises:
            KeyError: If there is no such adapter.
            ValueError: If adapters are of a kind that cannot be merged, such as prompts; the merged model predicts
                something else; or the model is divided among processes.
        """
        if self.is_sharded:
            raise ValueError(
                "`merge` is expected to be false where the model is divided among processes: save the adapter, and "
                "merge it in a single process"
            )
        if self._peft_config is None:
            self.save_pretrained(folder)
            return
        names = adapters or (DEFAULT,)
        with tempfile.TemporaryDirectory() as written:
            self.save_pretrained(Path(written), *names)
            merged = merged_model(self._base, Path(written), self._peft_config.revision)
        rows = trial_rows(self.tokenizer, prefix=not self.classifies)
        side: Any = self.tokenizer.padding_side  # transformers types it as any text
        batch = padded(rows, int(self.tokenizer.pad_token_id), side)
        on_device = {name: field.to(self._base.device) for name, field in batch.items()}
        with undisturbed(self), self.using(*names):
            ours = self._run(on_device, False)[0]
            seen = batch["attention_mask"].bool()
            theirs = merged(**{k: v for k, v in batch.items() if k in self._accepted}).logits
            if ours.dim() > 2:
                ours, theirs = ours.cpu()[seen], theirs[seen]
            if not getattr(self._base, "is_quantized", False):
                require_same(ours, theirs, self._base.dtype)
        with quiet_transformers():
            merged.save_pretrained(folder)
            self._save_generation(folder)
            with self._tokenizer_for_export():
                self.tokenizer.save_pretrained(folder)

    # Not abstract: most models do not generate.
    def _save_generation(self, folder: Path) -> None:
        """Write what whoever generates with an exported model needs. Default: nothing."""

    def _apply(self, fn: Change, recurse: bool = True) -> Self:
        """Move or convert the model, as ``to`` and Lightning's precisions ask for; adapters stay in float32."""
        if self._peft_config is not None:
            fn = widening(fn, self._adapters.tensors())
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        return moved

    @contextmanager
    def _tokenizer_for_export(self) -> Iterator[None]:
        """Within the block the tokenizer is as for who generates with the adapter.

        It pads as its files say, and has the chat template of the rows.
        """
        side, template = self.tokenizer.padding_side, self.tokenizer.chat_template
        self.tokenizer.padding_side = self._own_padding_side
        self.tokenizer.chat_template = self._chat_template or template
        try:
            yield
        finally:
            self.tokenizer.padding_side, self.tokenizer.chat_template = side, template

    def _settle_padding(self, predict: Callable[[dict[str, Tensor]], Tensor]) -> None:
        """Let the tokenizer pad on the side on which padding does not change predictions.

        Args:
            predict: The logits for a batch: [B, C], or of a language model [B, L, V].

        Raises:
            ValueError: If there is no such side, a row's prediction changes with others of its batch, or a
                language model reads ahead.
        """
        base, tokenizer = self._base, self.tokenizer
        rows = *trial_rows(tokenizer, prefix=not self.classifies), int(tokenizer.pad_token_id)
        device = base.device

        def on_device(batch: dict[str, Tensor]) -> Tensor:
            return predict({name: field.to(device) for name, field in batch.items()})

        named = f"`model.backbone.model` is {base.name_or_path}, a {type(base).__name__}, which"
        require_known_ids({"input_ids": [*rows[0], *rows[1], rows[2]]}, self, "model.backbone")
        try:
            with undisturbed(self):
                side = find_side(on_device, *rows)
                ahead = not self.classifies and reads_ahead(on_device, *rows)
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            line = " ".join(str(error).split())
            raise ValueError(f"{named} cannot read a short text: {line}") from error
        if ahead:
            raise ValueError(
                f"{named} is expected to predict a token from those before it, but reads those that come later as "
                f"well: it is no causal language model"
            )
        if side is None:
            raise ValueError(
                f"{named} is expected to predict the same of a row in every batch, but padding changes what it "
                f"predicts, on the right as on the left"
            )
        self._own_padding_side = tokenizer.padding_side
        tokenizer.padding_side = side

    @property
    def _base(self) -> Any:
        """The Hugging Face model without peft's wrapper."""
        return self.model if self._peft_config is None else self.model.get_base_model()

    @property
    def _active_model(self) -> Any:
        """The model to call: peft's wrapper, which would put prompts before the bare base's texts as well."""
        prompts = self._peft_config is not None and self._peft_config.is_prompt_learning
        return self._base if prompts and self.is_bare else self.model

    def _inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the model takes of a batch."""
        inputs: dict[str, Any] = {k: v for k, v in batch.items() if k in self._accepted}
        if "use_cache" in self._accepted:
            inputs["use_cache"] = False
        return inputs

    def _run(
        self, batch: Mapping[str, Tensor], output_hidden: bool
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """The model's logits, the hidden state [B, L, d] if asked for, and the attention mask [B, L]."""
        inputs = self._inputs(batch)
        hidden: list[Tensor] = []
        body = self._base.base_model
        # With `output_hidden_states` the model would keep those of all layers.
        handle = output_hidden and body.register_forward_hook(
            lambda module, args, output: hidden.append(output.last_hidden_state)
        )
        try:
            logits: Tensor = self._active_model(**inputs).logits
        finally:
            if handle:
                handle.remove()
        length = batch["input_ids"].shape[1]
        mask = batch.get("attention_mask")
        return (
            logits,
            # Virtual tokens of a prompt come first.
            hidden[0][:, -length:] if output_hidden else None,
            torch.ones_like(batch["input_ids"]) if mask is None else mask,
        )


def _has_keys_and_values(config: Any) -> bool:
    """Whether a learnt prompt is of keys and values, and no tokens that pass through the model."""
    return config.peft_type in ("PREFIX_TUNING", "CARTRIDGE")
