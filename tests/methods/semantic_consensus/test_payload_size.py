import math

import pytest

from lit_fed.methods.semantic_consensus import payload_ratio


def test_the_ratio_is_bytes_of_the_adapter_over_bytes_of_the_answers() -> None:
    assert payload_ratio(10, 4, prompts=5, mean_reply_bytes=2) == 4
    assert payload_ratio(1, 1, prompts=10, mean_reply_bytes=1) == pytest.approx(0.1)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_what_is_not_above_zero_is_refused(place: int, value: float) -> None:
    names = ("parameters", "bytes_per_parameter", "prompts", "mean_reply_bytes")
    given = dict.fromkeys(names, 1.0) | {names[place]: value}
    with pytest.raises(ValueError, match=f"`{names[place]}` is expected to be finite and above 0"):
        payload_ratio(**given)  # type: ignore[arg-type]
