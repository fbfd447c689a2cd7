"""How conversations become texts, one named template a file."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.data.chat_templates.alpaca_template import AlpacaTemplate
    from lit_fed.data.chat_templates.chat_template import ChatTemplate
    from lit_fed.data.chat_templates.chatml_template import ChatMLTemplate
    from lit_fed.data.chat_templates.dialogue_template import DialogueTemplate
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["AlpacaTemplate", "ChatMLTemplate", "ChatTemplate", "DialogueTemplate"]
