"""Black box: a client's model that answers prompts and has nothing that could be trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar, cast

from torch import Tensor, nn

from lit_fed.backbones.adapters import DEFAULT
from lit_fed.backbones.endpoint.unreachable_error import UnreachableError
from lit_fed.backbones.text_generator import TextGenerator
from lit_fed.configuration_error import ConfigurationError
from lit_fed.packing import pack, unpack

if TYPE_CHECKING:
    from lit_fed.backbones.backbone import Backbone


_ERRORS: Final = {
    kind.__name__: kind for kind in (ConfigurationError, UnreachableError, TypeError, ValueError)
}
"""What a federation tells apart of what a generator raises."""

Result = TypeVar("Result")


class BlackBox(nn.Module, TextGenerator):
    """Stands where a client has a :class:`Backbone`, for one that answers and trains nothing.

    It has no weights, no adapters, no tokens of its own and no loss.

    Args:
        generator: What answers.
        beside: A backbone of the federation, whose tokenizer and number of labels stand for the rows' own where
            something asks for them.

    Example:
        >>> from lit_fed.backbones import CallableGenerator, SequenceClassifier
        >>> box = BlackBox(CallableGenerator(str.upper), SequenceClassifier())
        >>> box.generate(["good"]), box.trainable(), list(box.parameters())
        (['GOOD'], {}, [])
    """

    packs = False

    def __init__(self, generator: TextGenerator, beside: Backbone) -> None:
        super().__init__()
        self.generator = generator
        self.tokenizer = beside.tokenizer
        self.num_labels = beside.num_labels
        self.classifies = beside.classifies
        self._from_first: Callable[[bytes], bytes] | None = None
        self._asks = True
        self._failures: Counter[str] = Counter()

    def ask_together(self, asks: bool, from_first: Callable[[bytes], bytes]) -> None:
        """Let one of several processes that are one client together ask, and all have its answers.

        Two that asked would have different answers wherever it draws them, or fails one of them.

        Args:
            asks: Whether this process is the one.
            from_first: Gives every process what that one gave.
        """
        self._from_first, self._asks = from_first, asks

    def __repr__(self) -> str:
        return f"BlackBox({self.generator!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: it has no state of a client's, and what it asks may be a connection or a program."""
        return self

    def generate(self, prompts: Sequence[str]) -> Sequence[str | None]:
        """What it answers; see :class:`TextGenerator`.

        Raises:
            TypeError: If it gives something else than a text for each prompt, or None.
            ValueError: If it gives more or fewer.
            RuntimeError: In processes that do not ask, where the one that does has raised an error of another kind.
        """

        def ask() -> tuple[list[str | None], Mapping[str, int]]:
            return list(self._asked(prompts)), self.generator.failures

        answers, failures = self._told(ask)
        self._failures = Counter(failures)
        return answers

    def _told(self, ask: Callable[[], Result]) -> Result:
        """What the process that asks is told, in all that are one client; an error of it is raised in all."""
        if self._from_first is None:
            return ask()
        told, raised = pack(None), None
        if self._asks:
            try:
                told = pack([None, None, ask()])
            except Exception as error:
                told, raised = pack([type(error).__name__, f"{error}", None]), error
        (kind, wrong, result), _ = unpack(self._from_first(told))
        if raised is not None:
            raise raised
        if kind is not None:
            raise _ERRORS.get(kind, RuntimeError)(wrong)
        return cast("Result", result)

    def _asked(self, prompts: Sequence[str]) -> Sequence[str | None]:
        said = self.generator.generate(prompts)
        if isinstance(said, str) or not isinstance(said, Sequence):
            raise TypeError(
                f"{self.generator!r} is expected to give a list of texts, but gave {type(said).__name__}"
            )
        if len(said) != len(prompts):
            raise ValueError(
                f"{self.generator!r} is expected to give an answer, or None, for each of {len(prompts)} prompts, but "
                f"gave {len(said)}"
            )
        if odd := [one for one in said if not isinstance(one, str | None)]:
            raise TypeError(
                f"{self.generator!r} is expected to give texts, or None, but gave {odd[0]!r:.60}"
            )
        return said

    @property
    def failures(self) -> Counter[str]:
        """What it has failed to answer; see :class:`TextGenerator`."""
        return self._failures

    def check(self) -> None:
        """Say before training what is wrong with it; see :class:`TextGenerator`."""
        self._told(self.generator.check)

    def forward(self, batch: Mapping[str, Tensor], output_hidden: bool = False) -> NoReturn:
        """Nothing.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"a model with predictions of batches is expected, but {self.generator!r} answers prompts by texts alone"
        )

    def trainable(self, adapter: str = DEFAULT) -> dict[str, nn.Parameter]:
        """No parameters."""
        return {}

    def load_trainable(self, state: Mapping[str, Tensor], adapter: str = DEFAULT) -> None:
        """Nothing.

        Raises:
            ValueError: If there is something to be loaded: it is another client's.
        """
        if state:
            raise ValueError(
                f"`state` is expected to be empty for a black box, but has {len(state)} tensors"
            )
