import pytest
import torch

from lit_fed.federation.execution.vectorized.batch_layout import BatchLayout, NoCommonLength, joined
from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize


def batch(rows: int, tokens: int, start: int = 1) -> dict[str, torch.Tensor]:
    ids = torch.arange(start, start + rows * tokens).view(rows, tokens)
    return {"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}


def test_batches_are_padded_each_in_its_way() -> None:
    layout, stacked = joined([4, 7], [batch(2, 2), batch(1, 3, 50)], 99, 0, ())
    assert layout == BatchLayout((4, 7), ((2, 2), (1, 3)), 2, 3)
    assert stacked["input_ids"].tolist() == [[1, 2, 99], [3, 4, 99], [50, 51, 52], [50, 51, 52]]
    assert stacked["labels"].tolist()[0] == [1, 2, -100]
    assert stacked["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]


def test_equal_batches_are_put_together_as_they_are() -> None:
    layout, stacked = joined([0, 1], [batch(2, 3), batch(2, 3)], 99, 0, (3,))
    assert layout.even
    assert stacked["input_ids"].shape == (4, 3)


def test_without_masks_padding_makes_some() -> None:
    batches = [{"input_ids": torch.ones(1, n, dtype=torch.long)} for n in (1, 2)]
    assert joined([0, 1], batches, 0, 0, ())[1]["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert "attention_mask" not in joined([0, 1], [batches[0]] * 2, 0, 0, ())[1]


def test_a_padded_length_is_unlike_other_sizes() -> None:
    """Else a hidden state of as many features as tokens would be cut in both."""
    layout, stacked = joined([0, 1], [batch(1, 2), batch(1, 4)], 0, 0, {4, 5, 7})
    assert layout.tokens == stacked["input_ids"].shape[1] == 9
    assert layout.split(torch.zeros(2, 9, 4))[0].shape == (1, 2, 4)


@pytest.mark.parametrize(
    ("shape", "own"),
    [
        ((4, 5), [(2, 3), (1, 5)]),
        ((4, 7), [(2, 5), (1, 7)]),  # with a prefix of two
        ((4, 2, 5, 7), [(2, 2, 3, 5), (1, 2, 5, 7)]),
        ((4, 6), [(2, 6), (1, 6)]),
        ((20, 6), [(6, 6), (5, 6)]),  # rows and tokens in one dimension
    ],
)
def test_parts_have_the_shape_they_would_have_alone(
    shape: tuple[int, ...], own: list[tuple[int, ...]]
) -> None:
    layout = BatchLayout((0, 1), ((2, 3), (1, 5)), rows=2, tokens=5, prefix=2)
    stacked = torch.randn(shape)
    parts = layout.split(stacked)
    assert [tuple(part.shape) for part in parts] == own
    again = layout.join(parts, stacked)
    assert again.shape == stacked.shape
    for one, other in zip(layout.split(again), parts, strict=True):
        assert torch.equal(one, other)
    assert again.count_nonzero() == sum(part.numel() for part in parts)


def test_what_has_no_rows_is_named() -> None:
    layout = BatchLayout((0, 1), ((2, 3), (2, 3)), rows=2, tokens=3)
    with pytest.raises(
        CannotVectorize, match=r"cannot run dropout, .* of shape \[3, 5\] where the 4 rows of all"
    ):
        layout.split(torch.zeros(3, 5), "dropout")
    with pytest.raises(CannotVectorize, match=r"field `bias` of shape \[1, 1, 2, 2\]"):
        joined(
            [0, 1],
            [{**batch(1, n), "bias": torch.zeros(1, 1, n, n)} for n in (2, 3)],
            0,
            0,
            (),
        )


def test_no_row_is_padded_beyond_the_models_positions() -> None:
    batches = [batch(1, 6), batch(1, 8)]
    assert joined([0, 1], batches, 0, 0, {8}, most=10)[0].tokens == 10
    with pytest.raises(NoCommonLength, match="rows of 8 tokens cannot be padded below 9"):
        joined([0, 1], batches, 0, 0, {8}, most=9)
    # of one length nothing is padded
    assert joined([0, 1], [batches[1]] * 2, 0, 0, {8}, most=8)[0].tokens == 8
