"""How the rows of a table are conversations, one form of records a file."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.data.records.chat_records import ChatRecords
    from lit_fed.data.records.instruction_records import InstructionRecords
    from lit_fed.data.records.records import Conversation, Message, Records
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["ChatRecords", "Conversation", "InstructionRecords", "Message", "Records"]
