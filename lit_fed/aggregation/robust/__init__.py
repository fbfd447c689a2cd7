"""Robust aggregation: rules that bound what some wrong clients can do to the global model."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.aggregation.robust.changes import Changes, Geometry
    from lit_fed.aggregation.robust.coordinate_median import CoordinateMedian
    from lit_fed.aggregation.robust.coordinates import Coordinates
    from lit_fed.aggregation.robust.flame import FLAME
    from lit_fed.aggregation.robust.geometric_median import GeometricMedian
    from lit_fed.aggregation.robust.krum import Krum, MultiKrum
    from lit_fed.aggregation.robust.norm_clipping import NormClipping
    from lit_fed.aggregation.robust.products import Products
    from lit_fed.aggregation.robust.robust_rule import RobustRule
    from lit_fed.aggregation.robust.trimmed_mean import TrimmedMean
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "FLAME",
    "Changes",
    "CoordinateMedian",
    "Coordinates",
    "GeometricMedian",
    "Geometry",
    "Krum",
    "MultiKrum",
    "NormClipping",
    "Products",
    "RobustRule",
    "TrimmedMean",
]
