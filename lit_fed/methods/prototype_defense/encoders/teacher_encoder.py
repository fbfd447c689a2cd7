"""Teacher encoder: the hidden states of the teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from lit_fed.backbones import Backbone
from lit_fed.methods.prototype_defense.encoders.gate_encoder import GateEncoder, pooled
from lit_fed.methods.teachers import FrozenTeacher, Teacher

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule


class TeacherEncoder(GateEncoder):
    """The teacher itself, as in the paper: whoever has poisoned the teacher has poisoned the gate.

    It may be of another family than the student, and then reads rows by a tokenizer of its own; where it is of another
    width as well, ``project`` takes the student's states to the prototypes.

    Raises:
        ValueError: When the method is built, if the teacher changes from round to round, as an
            :class:`~lit_fed.methods.teachers.AdapterTeacher` does, is made of the data when a fit begins, as a
            :class:`~lit_fed.methods.teachers.FineTunedTeacher` is, or is not used.
    """

    _teacher: FrozenTeacher | None = None

    def attach(self, student: Backbone, teacher: Teacher) -> None:
        """Keep the teacher; see the base class."""
        if not isinstance(teacher, FrozenTeacher) or not teacher.attached:
            kind = type(teacher).__name__
            raise ValueError(
                f"`model.encoder` TeacherEncoder expects `model.teacher` to be a FrozenTeacher and "
                f"`model.lambda_distill` above 0, since prototypes of a teacher that changes are of no use, but got "
                f"{kind}{'' if teacher.attached else ', which is not used'}"
            )
        # who only loads a run to embed texts has no data to make it of, and would embed by another model
        if type(teacher).setup is not Teacher.setup:
            raise ValueError(
                "`model.encoder` TeacherEncoder expects `model.teacher` to be a FrozenTeacher, since prototypes are of "
                f"the model as it was built, but got a {type(teacher).__name__}, which learns after that: save it and "
                "load it"
            )
        self._teacher = teacher

    @property
    def backbone(self) -> Backbone:
        """The teacher's; see the base class."""
        return self._attached.backbone

    def batches(self, module: FederatedModule, rows: Dataset) -> Iterator[Mapping[str, Tensor]]:
        """Rows as the teacher reads them; see the base class."""
        if not self._attached.reads_itself:
            yield from super().batches(module, rows)
            return
        for batch in module.data.dataloader(rows, self.backbone.tokenizer):
            yield move_data_to_device(batch, module.device)

    def states(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The vectors of a batch; see the base class."""
        return pooled(self._attached.predict(batch, hidden=True))

    @property
    def _attached(self) -> FrozenTeacher:
        if self._teacher is None:
            raise RuntimeError("a TeacherEncoder expects a teacher: call attach() first")
        return self._teacher
