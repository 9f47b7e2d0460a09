"""tools/parity.py says right of a gradient that is right, and wrong of one that is not."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam import differentiate

for library in ("torch", "onnx_ad"):
    pytest.importorskip(library)
files, nets, truths = (importlib.import_module(f"parity_{name}") for name in ("files", "nets", "truth"))
pytestmark = pytest.mark.oracle

NAME = "own.likeness"


@pytest.fixture(scope="module")
def net() -> Any:
    return nets.build(NAME)


@pytest.fixture(scope="module")
def truth(net: Any) -> Any:
    return truths.reference(net, nets.NETS[NAME].shape)


def judged(net: Any, truth: Any, kind: str, folder: Path) -> dict[str, Any]:
    path = folder / "model.onnx"
    files.export(net, nets.NETS[NAME], path, kind)
    found: dict[str, Any] = files.File(path, net, truth, free=kind.endswith("free")).judged()
    return found


@pytest.mark.parametrize("kind", ["ts", "ts free"])
def test_a_right_gradient_is_right(kind: str, net: Any, truth: Any, tmp_path: Path) -> None:
    found = judged(net, truth, kind, tmp_path)
    assert (found["state"], found["why"]) == ("right", "")
    assert {"image", "map"} < found["errors"].keys()
    assert max(found["errors"].values()) < 1e-4


def test_a_gradient_that_is_off_by_a_thousandth_is_wrong(
    net: Any, truth: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(model: Any, *, of: str, wrt: Any) -> Any:
        found = differentiate(model, of=of, wrt=wrt)
        graph = found.model.graph
        for name in found.gradients.values():
            last = next(node for node in graph.node if name in node.output)
            last.output[0] = f"{name}/exact"
            graph.node.append(helper.make_node("Mul", [f"{name}/exact", "off"], [name]))
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(1.001, np.float32), "off"))
        return found

    monkeypatch.setattr(files.onnxcam, "differentiate", off)
    found = judged(net, truth, "ts", tmp_path)
    assert found["state"] == "wrong"
    assert found["why"].startswith("image 1e-03, bound 1e-04; layer ")


def test_the_truth_is_the_slope(net: Any, truth: Any) -> None:
    """In float64, along a random direction, by central differences."""
    torch = truths.torch
    double = importlib.import_module("copy").deepcopy(net).double()
    x = torch.from_numpy(truth.x).double()
    step = 1e-6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    rise = ((double(x + step) - double(x - step)) / 2).gather(1, torch.from_numpy(truth.target)[:, None]).sum()
    assert float(rise) == pytest.approx(float((truth.image.value * step.numpy()).sum()), rel=1e-5)


def test_every_network_has_a_shape_and_a_library() -> None:
    assert len(nets.NETS) >= 120
    assert {net.library for net in nets.NETS.values()} == {"own", "torchvision", "transformers", "timm"}
    assert all(name == f"{net.library}.{net.arch}" and net.shape[0] == 3 for name, net in nets.NETS.items())
