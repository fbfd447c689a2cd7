import unicodedata

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


def test_marks_that_combine_belong_to_their_letters() -> None:
    assert words("हिन्दी की किताब") == ["हिन्दी", "की", "किताब"]
    assert words("தமிழ் বাংলা ภาษาไทย") == ["தமிழ்", "বাংলা", "ภาษาไทย"]
    assert words("می‌خواهم") == ["می‌خواهم"]  # joined by a sign without a width
    assert words("cafe\u0301 noir") == words("café noir") == ["café", "noir"]
    assert words("की") != words("का")
    assert not has_phrase("दिन", "द")
    assert has_phrase("cafe\u0301", "café")
    marks = {chr(c) for c in range(0x20000) if unicodedata.category(chr(c)) in ("Mn", "Mc")}
    assert all(
        words(f"a{mark}b") == [unicodedata.normalize("NFC", f"a{mark}b".lower())] for mark in marks
    )
