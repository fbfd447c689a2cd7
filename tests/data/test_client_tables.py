import pytest
from datasets import ClassLabel, Dataset, Features

from lit_fed.data.client_tables import joined_tables, require_names


def table(**columns: list[object]) -> Dataset:
    return Dataset.from_dict(columns)


def test_rows_follow_one_another_in_the_order_of_the_clients() -> None:
    rows, owned = joined_tables(
        {"b": table(x=["p", "q"]), "a": table(x=["r"]), "c": table(x=["s"])}
    )
    assert rows["x"][:] == ["p", "q", "r", "s"]
    assert {name: own.tolist() for name, own in owned.items()} == {"b": [0, 1], "a": [2], "c": [3]}


def test_only_shared_columns_stay() -> None:
    rows, _ = joined_tables({"a": table(x=["p"], y=[1]), "b": table(z=[2], x=["q"])})
    assert rows.column_names == ["x"]


def test_numbers_and_missing_columns_go_together() -> None:
    rows, _ = joined_tables(
        {"a": table(x=[None], n=[1]), "b": table(x=["q"], n=[0.5]), "c": table(x=["r"], n=[2])}
    )
    assert rows["x"][:] == [None, "q", "r"]
    assert rows["n"][:] == ["1", "0.5", "2"]


def test_names_of_labels_stay_and_have_to_agree() -> None:
    def labels(*names: str) -> Dataset:
        return Dataset.from_dict({"l": [1]}, Features({"l": ClassLabel(names=list(names))}))

    rows, _ = joined_tables({"a": labels("no", "yes"), "b": labels("no", "yes")})
    assert rows.features["l"] == ClassLabel(names=["no", "yes"])
    with pytest.raises(
        ValueError, match="column 'l' is expected to be of one type for all clients"
    ):
        joined_tables({"a": labels("no", "yes"), "b": labels("yes", "no")})


def test_text_and_numbers_become_text_as_they_are_written() -> None:
    rows, _ = joined_tables(
        {"a": table(l=[1]), "b": table(l=[2.0]), "c": table(l=["250.10"]), "d": table(l=[True])}
    )
    assert rows["l"][:] == ["1", "2.0", "250.10", "true"]
    with pytest.raises(
        ValueError, match=r"column 'l' .* is Value\('int64'\) in 'a' and List\(.*\) in 'c'"
    ):
        joined_tables({"a": table(l=[1]), "b": table(l=[2]), "c": table(l=[["no"]])})


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00"])
def test_names_that_cannot_stand_in_a_line_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected to name clients by texts of one line"):
        require_names({name: 0})


def test_names_are_texts_and_there_is_one() -> None:
    require_names({"a b/c": 0, "病房" * 100: 0, "A": 0, "a": 0})
    with pytest.raises(TypeError, match="by texts, but got 1, int"):
        require_names({1: 0})
    with pytest.raises(ValueError, match="names none"):
        require_names({})


def test_keys_that_few_turns_have_and_empty_lists_go_together() -> None:
    turn = {"role": "user", "content": "Why?"}
    rows, _ = joined_tables(
        {
            "a": table(tags=[[]], turns=[[turn]]),
            "b": table(tags=[["u"]], turns=[[{**turn, "name": "Bo"}]]),
            "c": table(tags=[[]], turns=[[{"name": None, **turn}]]),
        }
    )
    assert rows["tags"][:] == [[], ["u"], []]
    assert [one[0]["name"] for one in rows["turns"][:]] == [None, "Bo", None]
    assert {one[0]["content"] for one in rows["turns"][:]} == {"Why?"}
    with pytest.raises(ValueError, match=r"column 'tags' is expected to be of one type .* in 'b'"):
        joined_tables({"a": table(tags=[["u"]]), "b": table(tags=[[{"of": "u"}]])})
