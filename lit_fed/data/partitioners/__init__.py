"""How training rows are divided among clients, one way a file."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.data.partitioners.dirichlet import DirichletPartitioner
    from lit_fed.data.partitioners.few_rows import FewRowsPartitioner
    from lit_fed.data.partitioners.iid import IIDPartitioner
    from lit_fed.data.partitioners.label_shards import LabelShardsPartitioner
    from lit_fed.data.partitioners.natural import NaturalPartitioner
    from lit_fed.data.partitioners.partitioner import Partitioner
    from lit_fed.data.partitioners.quantity_skew import QuantitySkewPartitioner
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "DirichletPartitioner",
    "FewRowsPartitioner",
    "IIDPartitioner",
    "LabelShardsPartitioner",
    "NaturalPartitioner",
    "Partitioner",
    "QuantitySkewPartitioner",
]
