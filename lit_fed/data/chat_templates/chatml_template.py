"""ChatML: turns between special tokens, for tokenizers that have these."""

from __future__ import annotations

from lit_fed.data.chat_templates.chat_template import ChatTemplate

_TEXT = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


class ChatMLTemplate(ChatTemplate):
    """Turns between ``<|im_start|>`` and ``<|im_end|>``, which ends the assistant's.

    OpenAI, "Chat Markup Language", 2023; the form of Qwen's and SmolLM's models.

    >>> ChatMLTemplate().special_tokens
    ('<|im_start|>', '<|im_end|>')
    """

    def __init__(self) -> None:
        super().__init__(_TEXT, ("<|im_start|>", "<|im_end|>"))
