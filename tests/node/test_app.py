from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.errors import ConfigError
from perdure_node.app import import_app


@pytest.fixture(autouse=True)
def _imports_undone() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def test_an_app_given_as_a_path_is_imported_under_its_name_and_its_guarded_part_is_not_run(
    tmp_path: Path,
) -> None:
    app = write(tmp_path / "shop_one.py", "ran = __name__\nif __name__ == '__main__': 1 / 0\n")

    module = import_app(app)

    assert module.__name__ == "shop_one" == module.ran
    assert sys.modules["shop_one"] is module


def test_an_app_imports_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "shop_prices.py", "PRICE = 5\n")
    app = write(tmp_path / "shop_two.py", "from shop_prices import PRICE\n")

    assert import_app(app).PRICE == 5
    assert sys.path[0] == str(tmp_path)


def test_an_app_given_as_a_module_is_found_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shop_package" / "app.py", "x = 1\n")
    monkeypatch.chdir(tmp_path)

    assert import_app("shop_package.app").x == 1


def test_an_app_is_imported_once(tmp_path: Path) -> None:
    app = write(tmp_path / "shop_three.py", "")

    assert import_app(app) is import_app(app)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import nothing_like_this\n",
            r"No module named 'nothing_like_this' \(.*bad_app.py, line 1",
        ),
        ("\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*bad_app.py, line 2\)"),
        ("x = (\n", r"SyntaxError: .*\(.*bad_app.py, line 1\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(.*bad_app.py, line 2\)"),
    ],
)
def test_an_app_that_cannot_be_imported_is_refused_with_the_line_at_fault(
    tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        import_app(write(tmp_path / "bad_app.py", text))


def test_a_fault_in_a_neighbour_names_the_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "bad_neighbour.py", "1 / 0\n")
    app = write(tmp_path / "shop_four.py", "import bad_neighbour\n")

    with pytest.raises(ConfigError, match=r"\(.*bad_neighbour.py, line 1\)"):
        import_app(app)


def test_an_app_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.py is no file"):
        import_app(str(tmp_path / "nowhere.py"))
    with pytest.raises(ConfigError, match="No module named 'nowhere_at_all'"):
        import_app("nowhere_at_all")


def test_an_app_whose_name_belongs_to_another_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the name 'json' belongs to .*: give the file another"):
        import_app(write(tmp_path / "json.py", ""))


def test_an_app_whose_name_is_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'my-shop' is no name of a module"):
        import_app(write(tmp_path / "my-shop.py", ""))
