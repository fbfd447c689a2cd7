"""A teacher that is a second, frozen adapter on the student's own base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.backbones import Backbone, Prediction
from lit_fed.backbones.adapters import DEFAULT
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.methods.teachers.teacher import Teacher, silent

TEACHER: Final = "teacher"
"""Name of the teacher's adapter."""


class AdapterTeacher(Teacher):
    """The model as it was when the round began, p_g of DDG: a frozen adapter (with its head).

    It stands on the base that the student stands on, so it costs no second model, and what it predicts
    for a row is kept until the next round, so a row that a client sees again costs nothing.

    In a stock Trainer the teacher is the model the method was built with, or was last downloaded.

    Args:
        cache_mb: Megabytes for the predictions of this round, once for a client's own rows and once for
            public ones; what does not fit is computed again. 0: none is kept.
    """

    _student: Backbone | None = None
    _steps_before = 0
    _warned = False

    def __init__(self, cache_mb: float = 1024.0) -> None:
        super().__init__(cache_mb)

    def attach(self, student: Backbone) -> None:
        """Add the adapter, with the values that the student has now."""
        super().attach(student)
        self._student = student
        student.add_adapter(TEACHER)
        self._copy()

    def predict(self, batch: Mapping[str, Tensor], hidden: bool) -> Prediction:
        """The pass with the teacher's adapter; see :meth:`Teacher.predict`."""
        if self._student is None:
            raise RuntimeError("an AdapterTeacher expects a student: call attach() first")
        with silent(self._student, TEACHER):
            prediction: Prediction = self._student(batch, output_hidden=hidden)
        return prediction

    def start_round(self, client: Client | None) -> None:
        """The teacher ← the student, which has downloaded.

        Raises:
            ConfigurationError: If the client trains an adapter of its own, such as one of another rank.
        """
        super().start_round(client)
        active = self._student.active_adapters if self._student is not None else (DEFAULT,)
        if active != (DEFAULT,):
            raise ConfigurationError(
                f"`model.teacher` {type(self).__name__} expects `model.aggregation` to let all clients train the "
                f"adapter {DEFAULT}, but got {', '.join(active)}"
            )
        self._copy()
        self._steps_before = client.steps if client else 0

    def end_round(self, client: Client | None) -> None:
        """Warn once if a client takes a single step: until then it is its own teacher."""
        alone = client is not None and client.steps - self._steps_before == 1
        if alone and not self._warned:
            self._warned = True
            rank_zero_warn(
                "with a single local step the student is the teacher, so KD and alignment are 0; only "
                "L_aggregate differs from FedAvg"
            )

    def _copy(self) -> None:
        if self._student is not None:
            self._student.load_trainable(self._student.trainable(), TEACHER)
