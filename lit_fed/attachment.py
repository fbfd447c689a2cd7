"""What is done from outside to a client's round: to its rows, its teacher's predictions or its upload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from lit_fed.backbones import Prediction
from lit_fed.client import Client
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class Attachment:
    """An attack, a privacy filter or a compression, at one or more of three points of a client's round.

    It stands outside of methods, and acts the same in every execution: an element of the trainer's
    ``attachments``, which are gone through in their order. A subclass overrides the points that it is
    about; the others leave everything as it is. What one does to the form of an upload it undoes when the
    server has received it, the last one first.

    In :meth:`upload` the global generators of Python, NumPy and torch are seeded for this client, round and
    attachment.

    Args:
        clients: Ids of the clients that it acts on. None: all.

    Raises:
        ValueError: If ``clients`` is a text, whose letters would be taken for ids, or names none.

    Attributes:
        acts_on_changes: Whether it needs, of each weight that a client sends, what the client has downloaded of it.
        compares_rows: Whether what it makes of one row depends on the client's other rows, which DP-SGD cannot account
            for.
        replaces_rows: Whether the rows that it gives are none of the client's own.
        defends: Whether it is a defence, which a federation without any leaves out.

    Example:
        >>> import torch
        >>> class Boosted(Attachment):
        ...     '''Scales a client's upload.'''
        ...     def upload(self, client, upload, broadcast, memory):
        ...         twice = {n: 2 * t for n, t in upload.tensors.items()}
        ...         return Payload(twice, upload.strings, upload.parts), memory
        >>> sent, _ = Boosted().upload(None, Payload({"w": torch.ones(1)}), Payload(), Payload())
        >>> sent.tensors["w"]
        tensor([2.])
    """

    acts_on_changes: ClassVar[bool] = False
    compares_rows: ClassVar[bool] = False
    replaces_rows: ClassVar[bool] = False
    defends: ClassVar[bool] = False

    def __init__(self, clients: Sequence[str] | None = None) -> None:
        if isinstance(clients, str):
            raise ValueError(
                f"`trainer.attachments` {type(self).__name__} expects `clients` to be a list of ids, but got the text "
                f"{clients!r}"
            )
        if clients is not None and not len(clients):
            raise ValueError(
                f"`trainer.attachments` {type(self).__name__} expects `clients` to name one at least, or null, but got "
                "an empty list"
            )
        self.clients = None if clients is None else frozenset(clients)

    @property
    def remembers_changes(self) -> bool:
        """Whether it adds changes of a client's weights, or a part of them, to those of the client's later rounds.

        Default: it does not.
        """
        return False

    def acts_on(self, client: Client) -> bool:
        """Whether it acts on a client. Default: on those named in ``clients``."""
        return self.clients is None or client.id in self.clients

    def setup(self, clients: Sequence[str]) -> None:
        """Make ready before anything trains: the place to choose ``clients`` among all. Default: nothing.

        Args:
            clients: Ids of all clients of the federation.
        """
        return

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Make ready for the data, before anything trains: the place to choose rows. Default: nothing.

        Called after :meth:`setup`, with what every process has, and once more where the same attachment is used again.

        Args:
            module: The method.
            data: The clients' data.

        Raises:
            ValueError: If something in the settings is not in the data, or not for the method.
        """

    def summarised(self) -> Mapping[str, Any]:
        """What the run's summary has of it beside its settings, of what JSON takes. Default: nothing."""
        return {}

    def rows(self, client: Client, rows: Dataset) -> Dataset:
        """The rows that the client trains on, before the method's own ``local_data``.

        Called in every round. The same rows are to be given as the same object, since rows are encoded
        once and kept.

        What a method's clients prepare, such as a rewriting, is of the rows of the round in which they prepare. Where
        a row's response is another one later, the row's own is trained on, and not its rewriting; soft targets stay
        what the labels were then.

        Args:
            client: The client.
            rows: Its rows.
        """
        return rows

    def trained_on(self, client: Client, rows: Dataset) -> None:
        """Take note of the rows that reach the client's training, after all attachments. Default: nothing.

        Called in every round, after :meth:`rows` of the last attachment.

        Args:
            client: The client.
            rows: What the method's ``local_data`` is given.
        """
        return

    def teacher_prediction(
        self, client: Client, batch: Mapping[str, Tensor], prediction: Prediction
    ) -> Prediction:
        """What the client's teacher is taken to predict for a batch.

        Args:
            client: The client.
            batch: The batch.
            prediction: What the teacher predicts.
        """
        return prediction

    def upload(
        self, client: Client, upload: Payload, broadcast: Payload, memory: Payload
    ) -> tuple[Payload, Payload]:
        """What the client sends, and what this attachment keeps of it until the client's next round.

        Args:
            client: The client.
            upload: What the method sends.
            broadcast: What the client started from.
            memory: What was kept in the client's last round; empty in its first. It stays with the client.
        """
        return upload, memory

    def received(self, client: Client, upload: Payload, broadcast: Payload) -> Payload:
        """Server: what an upload stands for, in names, shapes and kinds as :meth:`upload` was given it.

        Where :meth:`upload` makes a payload smaller, this makes it whole again, after its bytes have been counted and
        before anything else sees it. It needs nothing that the server has not: of the client, what it was before its
        round. Default: the upload as it came.

        Args:
            client: The client.
            upload: What :meth:`upload` gave, or whatever else a client sends.
            broadcast: What the client started from.

        Raises:
            ValueError: If the upload is nothing that this attachment sends; the client is left out.
        """
        return upload


def overrides(attachment: Attachment, point: str) -> bool:
    """Whether an attachment does something at one of the points.

    Args:
        attachment: The attachment.
        point: ``rows``, ``teacher_prediction``, ``upload`` or ``received``.

    Example:
        >>> overrides(Attachment(), "rows")
        False
    """
    return getattr(type(attachment), point) is not getattr(Attachment, point)


def attachment_names(attachments: Sequence[Attachment]) -> list[str]:
    """A name of each, by which its memory is kept: its class and which one of that class it is.

    Example:
        >>> from lit_fed.compression import EightBit, TopK
        >>> attachment_names([TopK(), EightBit(), TopK()])
        ['TopK.0', 'EightBit.0', 'TopK.1']
    """
    kinds = [type(attachment).__name__ for attachment in attachments]
    return [f"{kind}.{kinds[:number].count(kind)}" for number, kind in enumerate(kinds)]
