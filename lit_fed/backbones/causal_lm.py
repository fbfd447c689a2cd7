"""Causal language model: a Hugging Face model that predicts the next token and continues texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lit_fed.backbones.anatomy import context_length
from lit_fed.backbones.backbone import Backbone
from lit_fed.backbones.packed_attention import block_mask, reads_packed
from lit_fed.backbones.padding import continues_padded, trial_rows, undisturbed
from lit_fed.backbones.prediction import Prediction
from lit_fed.backbones.pretrained import DType, load_pretrained
from lit_fed.backbones.text_generator import TextGenerator
from lit_fed.data.chat_templates.rendering import ends_of_turns
from lit_fed.data.encodings.prompt_tokens import border, prompt_tokens
from lit_fed.data.known_ids import require_known_ids

if TYPE_CHECKING:
    from peft import PeftConfig

_NEW_TOKENS = 128
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

        They become part of the model's own settings of generation, which an exported model has as well. Those of its
        tokenizer's chat template are there from the start.

        Args:
            tokens: Their ids.
        """
        own = self._base.generation_config
        told = own.eos_token_id
        known = [] if told is None else [told] if isinstance(told, int) else list(told)
        if new := [t for t in tokens if t not in {*known, self.tokenizer.eos_token_id}]:
            own.eos_token_id = [*known, *new]

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        max_new_tokens: int | None = 128,
        batch_size: int = 16,
        **settings: Any,
    ) -> list[str]:
        """Continue texts with the active adapters, without dropout, padded on the left.

        Args:
            prompts: The texts, which may be of any number and length, or their tokens. Special tokens in a text
                are read as such. Blanks at its end are left to the continuation, as in training
                (:class:`~lit_fed.data.CausalLMEncoding`), and taken off there.
            max_new_tokens: Tokens at most in each continuation. None: 128, or what the longest prompt leaves
                of those that the model allows.
            batch_size: Texts at once.
            **settings: Of a ``transformers.GenerationConfig``, for instance ``do_sample=True``.
                Greedy by default, whatever the model's own settings are; of these only the tokens that end a
                text are used, beside the tokenizer's.

        Returns:
            The continuations, without the prompts and without special tokens.

        Raises:
            ValueError: If a prompt and its continuation are longer than the model allows.
        """
        from transformers import GenerationConfig

        base, tokenizer = self._base, self.tokenizer
        ids, blanks = self._prompts(prompts)
        require_known_ids({"input_ids": [i for row in ids for i in row]}, self, "model.backbone")
        longest = max(map(len, ids), default=0)
        if max_new_tokens is None:
            room = context_length(base)
            left = _NEW_TOKENS if room is None else room - longest - self.virtual_tokens
            max_new_tokens = max(1, min(_NEW_TOKENS, left))
        self._require_room(longest, max_new_tokens)
        greedy = {
            "do_sample": False,
            "num_beams": 1,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": self._ends() or None,
            "max_new_tokens": max_new_tokens,
            "use_cache": True,
        }
        config = GenerationConfig(**(greedy | settings))
        answers = [""] * len(ids)
        together = self._may_pad(len({len(row) for row in ids}) > 1)
        training = self.training
        self.eval()
        # what `config` leaves open, transformers would take from the model's own, and peft from its copy of it
        holders = list({id(m): m for m in (base, self._active_model)}.values())
        own = [holder.generation_config for holder in holders]
        try:
            for holder in holders:
                holder.generation_config = config
            for rows in self._batches([len(row) for row in ids], batch_size, together):
                inputs = tokenizer.pad(
                    {"input_ids": [ids[i] for i in rows]}, padding_side="left", return_tensors="pt"
                ).to(base.device)
                output = self._active_model.generate(
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    generation_config=config,
                )
                new = output[:, inputs["input_ids"].shape[1] :]
                texts = tokenizer.batch_decode(new, skip_special_tokens=True)
                for i, text in zip(rows, texts, strict=True):
                    answers[i] = text.removeprefix(blanks[i])
        finally:
            for holder, before in zip(holders, own, strict=True):
                holder.generation_config = before
            self.train(training)
        return answers

    def _prompts(self, prompts: Sequence[str | Sequence[int]]) -> tuple[list[list[int]], list[str]]:
        """The prompts' tokens, and the blanks at the end of each text, which belong to what follows."""
        texts = [prompt if isinstance(prompt, str) else "" for prompt in prompts]
        split = [border(text) for text in texts]
        found = prompt_tokens(self.tokenizer, [text for text, _ in split]) if split else []
        ids = [
            own if isinstance(prompt, str) else list(prompt)
            for prompt, own in zip(prompts, found, strict=True)
        ]
        return ids, [blanks for _, blanks in split]

    def _ends(self) -> list[int]:
        """The tokens that end a text: the tokenizer's, which is trained, and those of the checkpoint."""
        told = self._base.generation_config.eos_token_id
        checkpoint = [] if told is None else [told] if isinstance(told, int) else list(told)
        return list(
            dict.fromkeys(t for t in (self.tokenizer.eos_token_id, *checkpoint) if t is not None)
        )

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
            base, pad = self._base, self.tokenizer.pad_token_id
            rows = trial_rows(self.tokenizer, prefix=True)

            def first(batch: dict[str, Tensor]) -> Tensor:
                inputs = {name: field.to(base.device) for name, field in batch.items()}
                given: dict[str, Any] = {"return_dict_in_generate": True, "output_logits": True}
                output = self._active_model.generate(
                    **inputs,
                    max_new_tokens=1,
                    do_sample=False,
                    num_beams=1,
                    pad_token_id=pad,
                    **given,
                )
                logits: Tensor = output.logits[0]
                return logits

            with undisturbed(self):
                self._continues_padded = continues_padded(first, *rows, pad)
        return self._continues_padded

    def _batches(self, lengths: list[int], size: int, padded: bool) -> Iterator[list[int]]:
        """Rows of similar length together, which saves padding; of the same length where none may be padded."""
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        groups = groupby(order, key=lambda i: 0 if padded else lengths[i])
        for _, group in groups:
            rows = list(group)
            yield from (rows[i : i + size] for i in range(0, len(rows), size))

    def _require_room(self, longest: int, max_new_tokens: int) -> None:
        room = context_length(self._base)
        longest += self.virtual_tokens
        if longest and room is not None and longest + max_new_tokens > room:
            raise ValueError(
                f"`max_new_tokens` is {max_new_tokens} and the longest prompt has {longest} tokens, but "
                f"the model allows {room} together"
            )
