"""Chat template: a Jinja text that writes a conversation, as tokenizers have one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ChatTemplate:
    """A chat template by its text.

    It is written as those of tokenizers are (https://huggingface.co/docs/transformers/chat_templating): it gets
    ``messages``, ``add_generation_prompt``, and the tokenizer's special tokens by their names, such as
    ``eos_token``; all special tokens of the result are written by it. Beside these it gets ``text_start``, the special
    tokens that the tokenizer itself puts before a text.

    Args:
        text: The Jinja text, or the path of a file that ends in ``.jinja``.
        special_tokens: Tokens that the template needs to be special ones of the tokenizer.

    Raises:
        FileNotFoundError: If there is no such file.

    >>> ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}").text[:9]
    '{% for m '
    """

    def __init__(self, text: str, special_tokens: Sequence[str] = ()) -> None:
        if text.endswith(".jinja") and "\n" not in text:
            file = Path(text).expanduser()
            if not file.is_file():
                raise FileNotFoundError(
                    f"`data.encoding.template.text` is expected to be a template or a file, but there is no {text!r}"
                )
            text = file.read_text(encoding="utf-8")
        self.text = text
        self.special_tokens = tuple(special_tokens)

    def require_tokens(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise unless the tokenizer has the special tokens that the template needs.

        Raises:
            ValueError: Naming the first that it lacks.
        """
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        if missing := [token for token in self.special_tokens if token not in added]:
            raise ValueError(
                f"`data.encoding.template` {type(self).__name__} needs the special token {missing[0]!r}, which the "
                f"model's tokenizer {tokenizer.name_or_path} does not have"
            )
