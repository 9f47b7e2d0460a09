"""docs/methods.md says what the registry says, and its example runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from onnxcam.methods import list_methods

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "methods.md"


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_what_the_registry_generates(make_docs: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"<!-- generated: methods -->\n{make_docs.methods_table()}\n<!-- end -->" in page


def test_the_table_has_a_row_for_each_method(make_docs: ModuleType) -> None:
    rows = make_docs.methods_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [method.name for method in list_methods()]


def test_every_method_has_a_section() -> None:
    headings = re.findall(r"^### (.+): `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for _, name in headings] == [method.name for method in list_methods()]


def test_the_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})


def test_check_tells_a_stale_page_and_writes_nothing(
    make_docs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_docs, "ROOT", tmp_path)
    monkeypatch.setattr(make_docs, "SECTIONS", {"colours": lambda: "| red |"})
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    old = "before\n<!-- generated: colours -->\n| blue |\n<!-- end -->\nafter\n"
    page.write_text(old, encoding="utf-8")

    assert make_docs.main(["--check"]) == 1
    assert page.read_text(encoding="utf-8") == old
    assert "page.md: stale" in capsys.readouterr().out

    assert make_docs.main([]) == 0
    assert page.read_text(encoding="utf-8") == old.replace("blue", "red")
    assert make_docs.main(["--check"]) == 0
