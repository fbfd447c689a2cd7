"""Public answers: how a model answers the public prompts, and learns from their labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.methods.semantic_consensus.exchange import Answers, Texts

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.methods.semantic_consensus.randomized_response import RandomizedResponse
    from lit_fed.module import FederatedModule


class PublicAnswers(ABC):
    """What is said to a public row, as a text, and how a row with such a text is learnt.

    Attributes:
        are_few: Whether there are a few different answers alone, such as labels.
        generates: Whether models write them.
    """

    are_few: ClassVar[bool] = False

    def names(self, module: FederatedModule) -> Sequence[str]:
        """All different answers, where there are a few alone. Default: none.

        Args:
            module: The method, with its data.
        """
        return ()

    generates: ClassVar[bool] = False

    @abstractmethod
    def check(self, module: FederatedModule, public: Dataset) -> None:
        """Say before training what cannot be answered.

        Args:
            module: The method with its data.
            public: The public set.

        Raises:
            ConfigurationError: If the models or the rows are of another kind.
        """

    @abstractmethod
    def answer(self, module: FederatedModule, rows: Dataset, with_confidence: bool) -> Answers:
        """Client: answer rows.

        Args:
            module: The method, which acts as the client.
            rows: M public rows.
            with_confidence: Whether it says how sure it is.
        """

    def sent(self, module: FederatedModule, answers: Answers) -> Answers:
        """Client: the answers of its model as they leave it. Default: as they are.

        Args:
            module: The method, which acts as the client.
            answers: What :meth:`answer` gave.
        """
        return answers

    def asked(self, module: FederatedModule, rows: Dataset) -> Answers:
        """Client: what a black box answers to rows, which cannot say how sure it is.

        Args:
            module: The method, which acts as a client whose backbone is a :class:`~lit_fed.backbones.BlackBox`.
            rows: M rows.
        """
        box: Any = module.backbone
        said = tuple(box.generate(module.data.encoding.inputs(rows)))
        meant = self.meant(module, said)
        texts = [text for text in said if text is not None]
        if texts and not any(meant):
            rank_zero_warn(
                f"none of the {len(texts)} texts that {box.generator!r} has said can be taken for an answer, and none "
                f"is a vote; the first is {texts[0]!r:.80}"
            )
        return Answers(meant, None)

    def failed(self, module: FederatedModule, texts: Texts) -> dict[str, float]:
        """Client: how many of the rows that a black box was :meth:`asked` last have no answer, by what went wrong.

        Args:
            module: The method, which acts as the client.
            texts: Its answers, [M].

        Returns:
            Counts by the names of metrics, ``failed/<kind>``; ``unclear`` are those where it has said something that is
            no answer.
        """
        box: Any = module.backbone
        counts = Counter(box.failures)
        if (unclear := texts.count(None) - counts.total()) > 0:
            counts["unclear"] = unclear
        return {f"failed/{kind}": float(count) for kind, count in counts.items()}

    def meant(self, module: FederatedModule, texts: Texts) -> Texts:
        """Client: what the texts of a black box mean, in the form of answers. Default: themselves, if they can be one.

        Args:
            module: The method, which acts as the client.
            texts: What the black box has said.
        """
        return self.valid(module, texts)

    def judged(self, module: FederatedModule, rows: Dataset) -> dict[str, float]:
        """Client: how good a black box answers rows, by names of metrics. Default: nothing is said, nothing is asked.

        Args:
            module: The method, which acts as the client.
            rows: The rows.
        """
        return {}

    @abstractmethod
    def valid(self, module: FederatedModule, texts: Texts) -> Texts:
        """Server: the answers, without those that cannot be one.

        Args:
            module: The method.
            texts: What a client has sent.
        """

    @abstractmethod
    def references(self, module: FederatedModule, public: Dataset) -> Texts:
        """Server: what the public rows say themselves, in the form of answers: compared with, and never learnt.

        Args:
            module: The method.
            public: The public set.
        """

    def response(self, module: FederatedModule) -> RandomizedResponse | None:
        """The noise of each answer, where they are under differential privacy. Default: they are not.

        Args:
            module: The method.
        """
        return None

    def learnable(
        self, module: FederatedModule, rows: Dataset, texts: Sequence[str]
    ) -> Dataset | None:
        """Client: the rows as they are learnt. Default: as they are, since :meth:`with_labels` labels their batches.

        Args:
            module: The method, which acts as the client.
            rows: N public rows.
            texts: Their labels.

        Returns:
            Those of the rows that can be learnt; None if there is none.
        """
        return rows if len(rows) else None

    def with_labels(
        self, module: FederatedModule, batch: Mapping[str, Tensor], labels: Texts
    ) -> dict[str, Tensor]:
        """Client: a batch of :meth:`learnable` rows with their labels. Default: as it is.

        Args:
            module: The method.
            batch: The batch.
            labels: Of all public rows, [U].
        """
        return dict(batch)
