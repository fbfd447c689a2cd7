import torch

from tests.methods.semantic_consensus.votes import GivenVectors

VECTORS = {
    "a": (3.0, 4.0),
    "b": (0.0, -1e30),
    "zero": (0.0, 0.0),
    "nan": (float("nan"), 1.0),
    "inf": (1.0, float("inf")),
}


def test_rows_of_length_one_in_the_texts_order() -> None:
    found = GivenVectors(VECTORS).encode(["a", "b", "a"])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, -1.0], [0.6, 0.8]]))


def test_a_text_that_comes_again_is_encoded_once() -> None:
    encoder = GivenVectors(VECTORS)
    encoder.encode(["b", "a", "b", "b", "a"])
    assert encoder.encoded == [["b", "a"]]


def test_without_a_vector_a_text_is_far_from_every_other() -> None:
    found = GivenVectors(VECTORS).encode(["zero", "nan", "inf", "a"])
    assert found[:3].tolist() == [[0, 0]] * 3
    assert found[3].norm() == 1


def test_no_texts() -> None:
    assert GivenVectors(VECTORS).encode([]).shape == (0, 0)
