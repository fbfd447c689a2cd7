"""An error of the run's configuration that shows in a client's round only, and is no client's failure."""

from __future__ import annotations


class ConfigurationError(ValueError):
    """A setting, a column or a model's table is wrong, which a check has found in the middle of a client's round.

    Whatever else a client raises leaves it out of its round, since it may be the client's own. Leaving one
    out after the other would not mend a wrong setting: this error ends the run. It is for checks that know
    that the cause is the run's.

    Example:
        >>> raise ConfigurationError("`data.encoding` names a column 'text' that the rows do not have")
        Traceback (most recent call last):
        ...
        lit_fed.configuration_error.ConfigurationError: `data.encoding` names a column 'text' that the rows do not have
    """
