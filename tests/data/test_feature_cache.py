import copy

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from lit_fed.data import ClassificationEncoding, Features
from lit_fed.data.feature_cache import FeatureCache

ROWS = Dataset.from_dict({"text": ["a", "b b", "c"], "label": [0, 1, 0]})


class Counting(ClassificationEncoding):
    calls = 0

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerFast, max_length: int
    ) -> Features:
        self.calls += 1
        return super().encode(rows, tokenizer, max_length)


@pytest.fixture
def encoding() -> Counting:
    return Counting("text", None)


def test_the_same_rows_are_encoded_once(
    encoding: Counting, wordpiece: PreTrainedTokenizerFast
) -> None:
    cache = FeatureCache(encoding, 8, 10)
    first = cache.get(ROWS, wordpiece)
    assert cache.get(ROWS, wordpiece) is first
    assert cache.get(ROWS, copy.deepcopy(wordpiece)) is first
    assert encoding.calls == 1


def test_other_rows_and_other_tokenizers_are_not_mixed_up(
    encoding: Counting, wordpiece: PreTrainedTokenizerFast, bpe: PreTrainedTokenizerFast
) -> None:
    cache = FeatureCache(encoding, 8, 10)
    first = cache.get(ROWS, wordpiece)
    assert cache.get(ROWS.select([0, 1]), wordpiece) is not first
    assert cache.get(ROWS, bpe) is not first
    longer = copy.deepcopy(wordpiece)
    longer.add_tokens(["zz"])
    assert cache.get(ROWS, longer) is not first
    assert encoding.calls == 4


def test_a_tokenizer_that_changes(encoding: Counting, wordpiece: PreTrainedTokenizerFast) -> None:
    cache, tokenizer = FeatureCache(encoding, 8, 10), copy.deepcopy(wordpiece)
    rows = Dataset.from_dict({"text": ["zz"], "label": [0]})
    unknown = cache.get(rows, tokenizer).row("input_ids", 0).tolist()
    tokenizer.add_tokens(["zz"])
    assert cache.get(rows, tokenizer).row("input_ids", 0).tolist() != unknown


def test_what_is_not_used_for_longest_is_dropped(
    encoding: Counting, wordpiece: PreTrainedTokenizerFast
) -> None:
    cache = FeatureCache(encoding, 8, 2)
    a, b, c = (ROWS.select([i]) for i in range(3))
    for rows in (a, b, a, c):
        cache.get(rows, wordpiece)
    assert len(cache) == 2
    cache.get(a, wordpiece)
    assert encoding.calls == 3
    cache.get(b, wordpiece)
    assert encoding.calls == 4


def test_tokenizers_that_differ_in_what_models_read_are_not_mixed_up(
    encoding: Counting, wordpiece: PreTrainedTokenizerFast
) -> None:
    few = copy.deepcopy(wordpiece)
    few.model_input_names = ["input_ids", "attention_mask"]
    cache = FeatureCache(encoding, 8, 10)
    cache.get(ROWS, few)
    cache.get(ROWS, wordpiece)
    assert encoding.calls == 2
