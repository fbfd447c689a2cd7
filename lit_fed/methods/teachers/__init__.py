"""Teachers: models that a client learns from without changing them.

A teacher knows the student's backbone and batches; it knows no method, no server and no other client.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.teachers.adapter_teacher import AdapterTeacher
    from lit_fed.methods.teachers.fine_tuned_teacher import FineTunedTeacher
    from lit_fed.methods.teachers.frozen_teacher import FrozenTeacher, fit_projector
    from lit_fed.methods.teachers.own_rows import OwnRows
    from lit_fed.methods.teachers.row_cache import RowCache
    from lit_fed.methods.teachers.teacher import Teacher, Transform, silent, teachers_of
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "AdapterTeacher",
    "FineTunedTeacher",
    "FrozenTeacher",
    "OwnRows",
    "RowCache",
    "Teacher",
    "Transform",
    "fit_projector",
    "silent",
    "teachers_of",
]
