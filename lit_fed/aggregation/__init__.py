"""How clients' updates become the next global state."""

from lit_fed.aggregation.aggregation import Aggregation
from lit_fed.aggregation.weighted_average import WeightedAverage
from lit_fed.aggregation.weighting import Weighting, client_weights

__all__ = ["Aggregation", "WeightedAverage", "Weighting", "client_weights"]
