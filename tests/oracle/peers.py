"""PyTorch's explanation libraries, importable without what they draw pictures with."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest

DRAWING = ("cv2", "matplotlib", "mpl_toolkits", "scipy", "skimage", "sklearn", "tqdm", "ttach")


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Packages that peers import and that nothing here calls: hollow where they are not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        known = fullname.partition(".")[0] in DRAWING
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        class Hollow(ModuleType):
            def __getattr__(self, name: str) -> MagicMock:
                if name.startswith("__"):
                    raise AttributeError(name)
                return MagicMock()

        return Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def importable() -> Iterator[None]:
    """Peers can be imported: hollow packages come last, and torchvision gets the schemas a CPU build of torch lacks."""
    finder = Absent()
    sys.meta_path.append(finder)
    schemas = importlib.import_module("torch").library.Library("torchvision", "FRAGMENT")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torchvision")
        except RuntimeError:  # "operator torchvision::nms does not exist": its own are compiled for another build
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            for name in ("nms", "qnms"):
                schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        yield
    sys.meta_path.remove(finder)


def peer(name: str) -> Any:
    """A peer's module, or skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)
