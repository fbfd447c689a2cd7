"""Alpaca's form: sections with headings in plain text, for tokenizers without tokens of turns."""

from __future__ import annotations

from lit_fed.data.chat_templates.chat_template import ChatTemplate

_TEXT = """\
{{- text_start -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- '### Instruction:\\n' + message['content'] + '\\n\\n' -}}
{%- else -%}
{{- '### Response:\\n' + message['content'] + eos_token -}}
{%- if not loop.last or add_generation_prompt -%}{{- '\\n\\n' -}}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Response:\\n' -}}{%- endif -%}
"""


class AlpacaTemplate(ChatTemplate):
    """Sections ``### Instruction:`` and ``### Response:``; the end of sequence ends a response.

    After Taori et al., "Stanford Alpaca", 2023, https://github.com/tatsu-lab/stanford_alpaca, without its preamble,
    which a system's turn may say.

    >>> "### Response:" in AlpacaTemplate().text
    True
    """

    def __init__(self) -> None:
        super().__init__(_TEXT)
