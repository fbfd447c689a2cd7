"""A dialogue in plain text: who speaks, and what they say."""

from __future__ import annotations

from lit_fed.data.chat_templates.chat_template import ChatTemplate

_TEXT = """\
{{- text_start -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- 'User: ' + message['content'] + '\\n' -}}
{%- else -%}
{{- 'Assistant: ' + message['content'] + eos_token -}}
{%- if not loop.last or add_generation_prompt -%}{{- '\\n' -}}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}
"""


class DialogueTemplate(ChatTemplate):
    """Lines ``User: …`` and ``Assistant: …``; the end of sequence ends the assistant's.

    After Chiang et al., "Vicuna", 2023, https://lmsys.org/blog/2023-03-30-vicuna.

    >>> "Assistant:" in DialogueTemplate().text
    True
    """

    def __init__(self) -> None:
        super().__init__(_TEXT)
