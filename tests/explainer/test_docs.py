"""The examples of docs/python.md and docs/export.md run, in order, and their tables name what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import onnxcam
from onnxcam import Explanation, OnnxCamError, errors

ROOT = Path(__file__).resolve().parents[2]
PYTHON, EXPORT = ((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("python", "export"))


@pytest.mark.parametrize("page", ["python", "export"])
def test_the_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sample_models").symlink_to(ROOT / "sample_models")
    monkeypatch.chdir(tmp_path)
    text = {"python": PYTHON, "export": EXPORT}[page]
    names: dict[str, object] = {}
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        exec(compile(example, f"docs/{page}.md", "exec"), names)
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    written = [f"/{path.name}{'/' * path.is_dir()}" for path in tmp_path.iterdir() if path.name != "sample_models"]
    assert written != []
    assert set(written) <= set(ignored)


def test_every_public_name_is_told() -> None:
    told = set(re.findall(r"\w+", PYTHON))
    assert {name for name in onnxcam.__all__ if not name.startswith("_")} - told == {"Differentiated"}


def test_every_error_is_told() -> None:
    raised = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, OnnxCamError)}
    assert {name for name in raised if f"`{name}`" not in PYTHON and f"`onnxcam.{name}`" not in PYTHON} == set()


def test_the_fields_of_an_explanation_are_told() -> None:
    told = set(re.findall(r"`(\w+)[(`]", PYTHON.partition("## Explanation")[2].partition("## The rest")[0]))
    assert told <= {field.name for field in fields(Explanation)} | set(vars(Explanation)) | {
        "ok", "blank", "saturated", "logit", "probability", "embedding", "output", "symbolic", "numeric",
    }  # fmt: skip


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([\w.]+\.md)\)", PYTHON + EXPORT):
        assert (ROOT / "docs" / target).is_file()
