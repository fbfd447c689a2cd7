import pytest

from lit_fed.metrics import entities_in


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("The fox ran. It slept.", []),
        ("We met Ann in New York.", ["Ann", "New York"]),
        ("I think I'm in Rome, Paris and Oslo; I saw Rome.", ["Rome", "Paris", "Oslo"]),
        ("Later NASA’s boss left. NASA stayed.", ["NASA"]),
        ('He said: "The end." Then (Berlin) fell.', ["Berlin"]),
        ("- Elden Ring\n- Dota", ["Ring"]),
        ("the iPhone of O'Neill and Jean-Luc Picard", ["iPhone", "O'Neill", "Jean-Luc Picard"]),
        ("在北京市见面", []),
        ("USA first", ["USA"]),
    ],
)
def test_names(text: str, names: list[str]) -> None:
    assert entities_in(text) == names


def test_a_lower_case_text_has_none() -> None:
    assert entities_in("we met ann in new york, and nasa".lower()) == []


def test_a_label_is_no_name() -> None:
    assert entities_in("ANSWER = cup\nNOTE: see NASA. UN : yes") == ["NASA"]
    assert entities_in("NASA said: ask IBM = the firm") == ["NASA", "IBM"]
