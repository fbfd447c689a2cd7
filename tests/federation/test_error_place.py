"""Where an error comes from: lines of one's own code are named, those of the library and of packages are not."""

import json
import runpy
from pathlib import Path

import pytest

from lit_fed.federation.error_place import with_place
from lit_fed.limits import require_at_least


def raised(path: Path, text: str) -> Exception:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever the file raises
        runpy.run_path(str(path))
    return caught.value


def test_ones_own_code_is_named_by_its_line(tmp_path: Path) -> None:
    error = raised(tmp_path / "mine.py", "x = 1\nx.logit\n")
    assert with_place(error) == f"{error} (AttributeError in mine.py, line 2)"


def test_the_line_is_ones_own_also_where_a_package_raises(tmp_path: Path) -> None:
    error = raised(tmp_path / "mine.py", "import json\n\njson.loads('{')\n")
    assert isinstance(error, json.JSONDecodeError)
    assert with_place(error).endswith(" (JSONDecodeError in mine.py, line 3)")


def test_a_folder_whose_name_begins_like_the_librarys_is_ones_own(tmp_path: Path) -> None:
    import lit_fed.federation.error_place as place

    beside = Path(place.__file__).parents[1].name + "_extra"
    folder = tmp_path / beside
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            place,
            "_LIBRARY",
            place._LIBRARY.replace(str(Path(place.__file__).parents[2]), str(tmp_path)),
        )
        error = raised(folder / "rules.py", "raise KeyError('a')\n")
        assert with_place(error) == "'a' (KeyError in rules.py, line 1)"


def test_what_the_library_says_needs_no_line() -> None:
    with pytest.raises(ValueError, match="at least 1") as caught:
        require_at_least("data.num_clients", 0, 1)
    assert with_place(caught.value) == str(caught.value)
