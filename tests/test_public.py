"""The root package: what it exports, and what importing it does not load."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import onnxcam
from onnxcam import errors

PUBLIC = {
    "Differentiated",
    "Explainer",
    "Explanation",
    "Target",
    "__version__",
    "check",
    "differentiate",
    "explain",
    "export",
    "list_layers",
    "list_methods",
    "list_operators",
}
HEAVY = {"PIL", "numpy", "onnx", "onnxruntime"}
COMMAND_LINE = """
import runpy, sys
sys.argv = ["onnxcam", "{option}"]
try:
    runpy.run_module("onnxcam", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def loaded(code: str) -> set[str]:
    """The top-level modules in a fresh interpreter after `code`."""
    tail = "\nimport sys\nprint('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(ran.stdout.rpartition("LOADED")[2].split())


def test_the_public_names_are_these() -> None:
    raised = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert set(onnxcam.__all__) == PUBLIC | raised
    assert len(onnxcam.__all__) == len(set(onnxcam.__all__))


@pytest.mark.parametrize("name", onnxcam.__all__)
def test_every_public_name_can_be_had_and_is_listed(name: str) -> None:
    value = getattr(onnxcam, name)
    assert name in dir(onnxcam)
    assert value is getattr(onnxcam, name)
    if name != "__version__":
        assert getattr(value, "__name__", name) == name
        assert value.__doc__


def test_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from onnxcam import *", names)
    assert names.keys() >= set(onnxcam.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'onnxcam' has no attribute 'gradcam'"):
        _ = onnxcam.gradcam
    with pytest.raises(ImportError, match="cannot import name 'gradcam'"):
        exec("from onnxcam import gradcam")


def test_the_version_is_the_distributions() -> None:
    assert onnxcam.__version__ == importlib.metadata.version("onnxcam")


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(onnxcam.__file__).parent / "py.typed").is_file()


def test_importing_the_root_loads_nothing_heavy() -> None:
    assert "onnxcam" in (modules := loaded("import onnxcam"))
    assert not modules & HEAVY


def test_errors_are_there_without_anything_heavy() -> None:
    assert not loaded("from onnxcam import OnnxCamError, ModelError") & HEAVY


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_command_line_answers_without_loading_anything_heavy(option: str) -> None:
    modules = loaded(COMMAND_LINE.format(option=option))
    assert "click" in modules
    assert not modules & HEAVY


def test_the_module_and_the_console_script_are_one() -> None:
    ran = subprocess.run([sys.executable, "-m", "onnxcam", "--version"], capture_output=True, text=True, check=True)
    assert onnxcam.__version__ in ran.stdout
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="onnxcam")
    assert script.value == "onnxcam.cli:main"
