from lit_fed.metrics.words import has_phrase, ngrams, words


def test_words_of_several_scripts() -> None:
    assert words("Don’t PANIC -- 3rd try_out: 3.14, naïve") == [
        *("don't", "panic", "3rd", "try", "out", "3.14", "naïve")
    ]
    assert words("我在Paris、東京タ") == ["我", "在", "paris", "東", "京", "タ"]
    assert words("Привет, 안녕 세상") == ["привет", "안녕", "세상"]
    assert words(" … \n") == []


def test_ngrams() -> None:
    assert ngrams(["a", "b", "c"], 3) == [("a", "b", "c")]
    assert ngrams(["a", "b"], 3) == []


def test_phrases_are_whole_words() -> None:
    assert has_phrase("(NEW\nYork)", "New York")
    assert not has_phrase("Newark, Yorkshire", "York")
    assert has_phrase("我在Paris吃饭", "Paris")
    assert not has_phrase("a.b", "a+b")
    assert has_phrase("C++ is", "C++")
