"""Causal language model: a Hugging Face model that predicts the next token and continues texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lit_fed.backbones.anatomy import context_length
from lit_fed.backbones.backbone import Backbone
from lit_fed.backbones.generation.answer_cache import AnswerCache
from lit_fed.backbones.generation.batches import batches
from lit_fed.backbones.generation.content import content_digest, tokenizer_content
from lit_fed.backbones.generation.continuation import Continuation
from lit_fed.backbones.generation.prompt import Prompt
from lit_fed.backbones.generation.sampling import Sampling
from lit_fed.backbones.generation.settings import (
    chosen_sampling,
    require_settings,
    require_stop_strings,
)
from lit_fed.backbones.identity import adapter_settings, model_settings
from lit_fed.backbones.packed_attention import block_mask, reads_packed
from lit_fed.backbones.padding import trial_rows, undisturbed
from lit_fed.backbones.prediction import Prediction
from lit_fed.backbones.pretrained import DType, load_pretrained
from lit_fed.backbones.text_generator import TextGenerator
from lit_fed.data.chat_templates.rendering import ends_of_turns
from lit_fed.data.encodings.prompt_tokens import border, prompt_tokens
from lit_fed.data.known_ids import require_known_ids
from lit_fed.limits import require_at_least, require_none_or_at_least

if TYPE_CHECKING:
    from peft import PeftConfig

NEW_TOKENS = 128
"""Tokens at most of an answer, where no setting says how many."""
# Parts of predictions' spread that rounding moves.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}
_COARSE = 0.02


class CausalLM(Backbone, TextGenerator):
    """A Hugging Face causal language model, which also answers prompts.

    Args:
        model: A local folder in Hugging Face format, or a name on the hub. None: the embedded
            decoder, which is shipped with the package.
        peft: A PEFT configuration by its class path, such as ``peft.IA3Config``; what it leaves open
            follows from the model. ``lora``: LoRA of rank 8 and alpha 16. None: all weights are
            trained.
        dtype: Type of the frozen weights; ``auto`` is that of the checkpoint. What trains is float32 whatever it is,
            in the exported adapter as well; so where all weights train, this has to be float32.
        gradient_checkpointing: Compute activations again in the backward pass instead of keeping
            them: less memory, more time.
        quantization: ``4bit`` for frozen weights of four bits (extra ``bitsandbytes``).
        revision: Branch, tag or commit of the model on the hub.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If a setting does not fit the model.

    A model of random weights, for the example:

    >>> import tempfile, tokenizers, transformers
    >>> folder = tempfile.mkdtemp()
    >>> words = tokenizers.models.WordLevel({"?": 0, ".": 1, "good": 2, "bad": 3}, unk_token="?")
    >>> tokenizer = tokenizers.Tokenizer(words)
    >>> tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    >>> transformers.PreTrainedTokenizerFast(
    ...     tokenizer_object=tokenizer, unk_token="?", eos_token="."
    ... ).save_pretrained(folder) and None
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    >>> config = transformers.LlamaConfig(vocab_size=4, intermediate_size=8, **size)
    >>> transformers.LlamaForCausalLM(config).save_pretrained(folder)
    >>> backbone = CausalLM(folder)
    >>> batch = backbone.tokenizer(["good good .", "bad"], padding=True, return_tensors="pt")
    >>> prediction = backbone(batch)
    >>> prediction.logits.shape, prediction.mask.tolist()
    (torch.Size([2, 2, 4]), [[True, True], [False, False]])
    >>> len(backbone.generate(["good", "bad bad"], max_new_tokens=4))
    2
    """

    auto_class = "AutoModelForCausalLM"
    classifies = False

    def __init__(
        self,
        model: str | None = None,
        peft: PeftConfig | Literal["lora"] | None = "lora",
        dtype: DType = "float32",
        gradient_checkpointing: bool = False,
        quantization: Literal["4bit"] | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if model is None:
            from lit_fed.backbones.embedded import embedded_model

            model = str(embedded_model("decoder"))
        from transformers import AutoModelForCausalLM

        pretrained = load_pretrained(
            AutoModelForCausalLM, model, dtype, quantization, revision, trust_remote_code
        )
        super().__init__(pretrained, peft, "CAUSAL_LM", gradient_checkpointing, revision)
        self._settle_padding(self._logits)
        # Found out where it is asked for first: whether texts of different lengths may be continued together.
        self._continues_padded: bool | None = None
        self.end_with(ends_of_turns(self.tokenizer))

    def forward(self, batch: Mapping[str, Tensor], output_hidden: bool = False) -> Prediction:
        """Predict the next token at every place.

        Args:
            batch: ``input_ids`` [B, L], optional ``attention_mask`` [B, L] and whatever else the
                model takes; optional ``labels`` [B, L], -100 where there is nothing to learn. Of packed rows also
                ``segment_ids`` [B, L], the row of each token, and ``position_ids``.
            output_hidden: Whether the prediction has the last hidden state.

        Returns:
            Logits [B, L-1, V] and targets [B, L-1], shifted.
        """
        logits, hidden, attention_mask = self._run(batch, output_hidden)
        # Virtual tokens of a prompt come first.
        logits = logits[:, -batch["input_ids"].shape[1] :][:, :-1]
        labels = batch.get("labels")
        # Padding on the left predicts nothing.
        within = attention_mask[:, :-1].bool()
        if labels is None:
            mask = attention_mask[:, 1:].bool() & within
            return Prediction(logits, None, mask, hidden, attention_mask)
        targets = labels[:, 1:].masked_fill(~within, -100)
        return Prediction(logits, targets, targets != -100, hidden, attention_mask)

    @cached_property
    def packs(self) -> bool:
        """Whether it reads several rows in one sequence as if each were alone, which is found by trying.

        Not behind a learnt prompt, nor by a model that takes no positions, nor by one of whose layers some see no
        further than a window, which a row would have to be longer than to show.
        """
        window = getattr(self._base.config.get_text_config(), "sliding_window", None)
        if self.virtual_tokens or window or "position_ids" not in self._accepted:
            return False
        device, dtype = self._base.device, self._base.dtype
        rows = trial_rows(self.tokenizer, prefix=True)

        def logits(batch: dict[str, Tensor]) -> Tensor:
            return self._logits({name: field.to(device) for name, field in batch.items()})

        with undisturbed(self):
            return reads_packed(logits, [rows[0], rows[1], rows[0]], _ROUNDING.get(dtype, _COARSE))

    def end_with(self, tokens: Sequence[int]) -> None:
        """Take tokens that end an answer, beside the end of sequence and those of the checkpoint.

        They become part of the model's own settings of generation, which an export has as ``generation_config.json``.
        Those of its tokenizer's chat template are there from the start; those of the data are told by it before
        training and, where a run is loaded, by its checkpoint.

        Args:
            tokens: Their ids.
        """
        own = self._base.generation_config
        told = own.eos_token_id
        known = [] if told is None else [told] if isinstance(told, int) else list(told)
        if new := [t for t in tokens if t not in {*known, self.tokenizer.eos_token_id}]:
            own.eos_token_id = [*known, *new]

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        max_new_tokens: int | None = 128,
        batch_size: int = 16,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        keys: Sequence[str] | None = None,
        cache: str | Path | None = None,
        progress: bool = False,
        **settings: Any,
    ) -> list[str]:
        """Continue texts with the active adapters, without dropout, padded on the left.

        A text's continuation is the same, but for rounding, in whatever batch and order it is asked for, also where
        tokens are drawn.

        Args:
            prompts: The texts, which may be of any number and length, or their tokens. Special tokens in a text
                are read as such. Blanks at its end are left to the continuation, as in training
                (:class:`~lit_fed.data.CausalLMEncoding`), and taken off there.
            max_new_tokens: Tokens at most in each continuation. None: 128, or what the longest prompt leaves
                of those that the model allows.
            batch_size: Texts at once.
            sampling: How each token is chosen. None: the likeliest one is taken.
            stop: Texts that end a continuation, and are cut off it.
            keys: A key for each prompt, by which its tokens are drawn in the place of the prompt itself, as for several
                answers to one prompt. None: prompts have none.
            cache: A folder in which continuations are kept by all that decides them, the values of all weights among
                it. What is there is not generated again; each batch is there when it is done. None: nothing is kept.
            progress: Whether a bar shows how many are done, and the tokens a second.
            **settings: Of a ``transformers.GenerationConfig``, for instance ``repetition_penalty=1.2``. With
                ``do_sample=True``, ``temperature``, ``top_k`` and ``top_p`` stand for a ``sampling`` whose seed
                torch draws. Of the model's own settings only the tokens that end a text are used, beside the
                tokenizer's.

        Returns:
            The continuations, without the prompts and without special tokens.

        Raises:
            TypeError: If a text stands where a list of them is expected.
            ValueError: If a prompt and its continuation are longer than the model allows, the model has no token that
                ends a text, or a setting is out of range.
        """
        told = self.continuations(
            prompts,
            max_new_tokens,
            batch_size,
            sampling,
            stop,
            keys,
            cache=cache,
            progress=progress,
            **settings,
        )
        return [one.text for one in told]

    def continuations(
        self,
        prompts: Sequence[str | Sequence[int]],
        max_new_tokens: int | None = 128,
        batch_size: int = 16,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        keys: Sequence[str] | None = None,
        blanks: Sequence[str] | None = None,
        cache: str | Path | None = None,
        progress: bool = False,
        **settings: Any,
    ) -> list[Continuation]:
        """Continue texts as :meth:`generate` does, and tell how many tokens each has and whether it has come to an end.

        Args:
            prompts: As there.
            max_new_tokens: As there.
            batch_size: As there.
            sampling: As there.
            stop: As there.
            keys: As there.
            blanks: What each continuation begins with that belongs to its prompt, as where a template writes it: taken
                off, and no stop string is looked for in it. None: of a text the blanks at its end, of tokens nothing.
            cache: As there.
            progress: As there.
            **settings: As there.

        Returns:
            A continuation for each prompt.

        Raises:
            TypeError: As there.
            ValueError: As there, or if there are not as many ``blanks`` as prompts.
        """
        from transformers import GenerationConfig

        from lit_fed.backbones.generation.continuing import continued, settled
        from lit_fed.backbones.generation.progress import GenerationProgress

        require_at_least("batch_size", batch_size, 1)
        sampling, settings = chosen_sampling(sampling, settings)
        stop = require_stop_strings(stop)
        asked = self._asked(prompts, None if sampling.greedy else keys, blanks)
        given = self._settings(asked, max_new_tokens, sampling.greedy, settings)
        kept = None
        if cache is not None:
            kept = AnswerCache(Path(cache), self._content({**given, **sampling.told, "stop": stop}))
        known = {one: answer for one in asked if kept and (answer := kept.get(one)) is not None}
        new = [one for one in dict.fromkeys(asked) if one not in known]
        if not new:
            return [known[one] for one in asked]
        lengths = [len(one.tokens) for one in new]
        rows = batches(lengths, batch_size, self._may_pad(len(set(lengths)) > 1))
        config = GenerationConfig(**given)
        holders = list({id(m): m for m in (self._base, self._active_model)}.values())
        with settled(self, holders, config), GenerationProgress(len(new), progress) as shown:
            for answers in continued(
                self._active_model,
                self.tokenizer,
                ([new[i] for i in batch] for batch in rows),
                config,
                sampling,
                stop,
                shown,
            ):
                if kept is not None:
                    kept.add(answers)
                known |= answers
        return [known[one] for one in asked]

    def check_prompts(
        self, prompts: Sequence[str | Sequence[int]], max_new_tokens: int | None = 128
    ) -> None:
        """Raise where :meth:`generate` would, before anything takes time.

        Args:
            prompts: As there.
            max_new_tokens: As there.

        Raises:
            ValueError: If a prompt and its continuation are longer than the model allows, or the model has no token
                that ends a text.
        """
        self._settings(self._asked(prompts, None), max_new_tokens, True, {})

    def _settings(
        self,
        asked: Sequence[Prompt],
        max_new_tokens: int | None,
        greedy: bool,
        settings: Mapping[str, Any],
    ) -> dict[str, Any]:
        """All that a ``transformers.GenerationConfig`` is made of."""
        require_none_or_at_least("max_new_tokens", max_new_tokens, 1)
        require_settings(settings, greedy)
        ids = [token for one in asked for token in one.tokens]
        require_known_ids({"input_ids": ids}, self, "model.backbone")
        return {
            "do_sample": False,
            "num_beams": 1,
            "pad_token_id": self.tokenizer.pad_token_id,
            "use_cache": True,
            **settings,
            "eos_token_id": self._ends(settings.get("eos_token_id")),
            "max_new_tokens": self._room(
                max((len(one.tokens) for one in asked), default=0), max_new_tokens
            ),
        }

    def _asked(
        self,
        prompts: Sequence[str | Sequence[int]],
        keys: Sequence[str] | None,
        blanks: Sequence[str] | None = None,
    ) -> list[Prompt]:
        """The prompts' tokens, and the blanks at the end of each text, which belong to what follows."""
        if isinstance(prompts, str):
            raise TypeError(
                f"`prompts` is expected to be a list of texts, but got a text: {prompts!r:.80}"
            )
        for name, given in (("keys", keys), ("blanks", blanks)):
            if given is not None and len(given) != len(prompts):
                raise ValueError(
                    f"`{name}` is expected to have one for each of {len(prompts)} prompts, but has {len(given)}"
                )
        split = [border(prompt if isinstance(prompt, str) else "") for prompt in prompts]
        found = prompt_tokens(self.tokenizer, [text for text, _ in split]) if split else []
        return [
            Prompt(tuple(own if isinstance(prompt, str) else prompt), before, key)
            for prompt, own, before, key in zip(
                prompts,
                found,
                [before for _, before in split] if blanks is None else blanks,
                keys or [""] * len(prompts),
                strict=True,
            )
        ]

    def _ends(self, asked: int | Sequence[int] | None = None) -> list[int]:
        """The tokens that end a text: those asked for, else the tokenizer's, which is trained, and the checkpoint's."""
        ends = self._known_ends() if asked is None else [asked] if isinstance(asked, int) else asked
        if not ends:
            raise ValueError(
                f"`model.backbone.model` is {self._base.name_or_path}, which is expected to have a token that ends a "
                f"text, such as `eos_token` in its tokenizer_config.json, but has none: its answers would not end"
            )
        return list(dict.fromkeys(ends))

    def _known_ends(self) -> list[int]:
        """The tokenizer's end of sequence, and what the model's own settings of generation have."""
        told = self._base.generation_config.eos_token_id
        ends = [] if told is None else [told] if isinstance(told, int) else list(told)
        own = self.tokenizer.eos_token_id
        return list(dict.fromkeys(ends if own is None else [own, *ends]))

    def _save_generation(self, folder: Path) -> None:
        """Write ``generation_config.json``: the model's own, with all tokens that end an answer."""
        config = deepcopy(self._base.generation_config)
        config.eos_token_id = self._known_ends() or None
        config.to_json_file(folder / "generation_config.json")

    def _content(self, settings: Mapping[str, Any]) -> str:
        """A digest of all that decides a continuation, but the prompt: settings, tokenizer and every weight."""
        if self.is_sharded:
            raise ValueError(
                "`cache` is expected to be null where the model is divided among processes, which would each read "
                "what another writes"
            )
        adapters = [] if self.is_bare or self._peft_config is None else list(self.active_adapters)
        every = self.adapters if self._peft_config is not None else ()
        of_adapters = {id(p) for name in every for p in self.trainable(name).values()}
        weights = {
            name: tensor
            for named in (self.model.named_parameters(), self.model.named_buffers())
            for name, tensor in named
            if id(tensor) not in of_adapters
        }
        for place, name in enumerate(adapters):
            weights |= {f"{place} {n}": p for n, p in self.trainable(name).items()}
        device = self._base.device.type
        told = {
            "settings": settings,
            "tokenizer": tokenizer_content(self.tokenizer),
            "config": model_settings(self._base.config),
            "adapters": [adapter_settings(self.model.peft_config[name]) for name in adapters],
            "autocast": str(torch.get_autocast_dtype(device)) * torch.is_autocast_enabled(device),
        }
        return content_digest(told, weights)

    def _inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the model takes of a batch; of packed rows each sees itself alone."""
        inputs = super()._inputs(batch)
        if "segment_ids" in batch:
            inputs["attention_mask"] = self._block_mask(batch["segment_ids"])
        return inputs

    def _block_mask(self, segments: Tensor) -> Tensor:
        seen = block_mask(segments)
        if self._base.config._attn_implementation == "sdpa":
            return seen
        # what is added to the scores, as other kinds of attention take it
        dtype = self._base.dtype
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(
            ~seen, torch.finfo(dtype).min
        )

    def _logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits [B, L, V] at every token, those of a prompt left out."""
        return self._run(batch, False)[0][:, -batch["input_ids"].shape[1] :]

    def _may_pad(self, differ: bool) -> bool:
        """Whether texts of different lengths may be continued together, if there are such.

        Not after a learnt prompt: peft ignores positions, and padding would shift those of the text. Nor by a
        model that counts padding among its positions.
        """
        if self.virtual_tokens or not differ:
            return not self.virtual_tokens
        if self._continues_padded is None:
            from lit_fed.backbones.generation.continuing import may_be_padded

            self._continues_padded = may_be_padded(self, self._active_model, self.tokenizer)
        return self._continues_padded

    def _room(self, longest: int, max_new_tokens: int | None) -> int:
        """Tokens at most in each continuation, for which the longest prompt leaves room."""
        room, longest = context_length(self._base), longest + self.virtual_tokens
        if max_new_tokens is None:
            left = NEW_TOKENS if room is None else room - longest
            max_new_tokens = max(1, min(NEW_TOKENS, left))
        if longest and room is not None and longest + max_new_tokens > room:
            raise ValueError(
                f"`max_new_tokens` is {max_new_tokens} and the longest prompt has {longest} tokens, but "
                f"the model allows {room} together"
            )
        return max_new_tokens
