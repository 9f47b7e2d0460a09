"""docs/gradients.md: its example runs, its tables are what the registry says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from onnxcam.vjp import list_operators

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gradients.md").read_text(encoding="utf-8")


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(example, "docs/gradients.md", "exec"), {})


def test_the_tables_are_generated() -> None:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    make_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_docs)
    assert f"<!-- generated: operators -->\n{make_docs.operators_table()}\n<!-- end -->" in PAGE


def test_every_operator_is_told() -> None:
    names = {
        f"`{operator.domain}.{operator.name}`" if operator.domain else f"`{operator.name}`"
        for operator in list_operators()
    }
    assert {name for name in names if name not in PAGE} == set()
