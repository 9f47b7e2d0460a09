"""Models of volumes and films: a map has a depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.errors import PreprocessError, UsageError
from onnxcam.explainer import Explainer
from onnxcam.graph import list_layers
from onnxcam.runtime import Layout
from tests.nets import net


def volume(order: str = "0,1,2,3,4", shape: str = "N,1,6,8,10") -> onnx.ModelProto:
    """Channels are box sums of the volume, and the volume itself."""
    kernels = np.zeros((2, 1, 3, 3, 3), np.float32)
    kernels[0], kernels[1, 0, 1, 1, 1] = 1, 1
    return net(
        f"""(float[{shape}] x) => (float[N,2] y) {{
  t = Transpose<perm=[{order}]>(x)
  c = Conv<pads=[1,1,1,1,1,1]>(t, k)
  last = Relu(c)
  p = GlobalAveragePool(last)
  f = Flatten(p)
  y = MatMul(f, fc)
}}""",
        {"k": kernels, "fc": np.array([[1, 1], [-1, 1]], np.float32)},
    )


BLOB = np.zeros((1, 6, 8, 10), np.float32)
BLOB[0, 2, 3, 7] = 1


@pytest.mark.parametrize(
    ("order", "shape", "axes"),
    [
        ("0,1,2,3,4", "N,1,6,8,10", "NCDHW"),
        ("0,4,1,2,3", "N,6,8,10,1", "NCDHW"),
        ("0,1,4,3,2", "N,1,6,8,10", "NCWHD"),
    ],
)
def test_the_map_has_a_depth(order: str, shape: str, axes: str) -> None:
    model = volume(order, shape)
    layer = list_layers(model)[0]
    assert (layer.name, layer.layout, layer.automatic) == ("last", Layout(axes), True)
    x = BLOB if shape.startswith("N,1") else np.moveaxis(BLOB, 0, -1)
    for method in ("gradcam", "hirescam", "saliency", "inputxgradient"):
        found = onnxcam.explain(model, x, target=1, method=method)
        assert found.map.shape == (6, 8, 10)
        assert found.status == "ok"
        if method != "saliency":  # which is the same everywhere here
            where = np.argwhere(found.map > 0.5 * found.map.max()).mean(axis=0)
            np.testing.assert_allclose(where, [2, 3, 7])


def test_a_volume_is_saved_but_not_drawn(tmp_path: Path) -> None:
    found = onnxcam.explain(volume(), BLOB, target=1)
    found.save(tmp_path / "map.npy")
    assert np.load(tmp_path / "map.npy").shape == (6, 8, 10)
    with pytest.raises(UsageError, match=r"a volume, \[6, 8, 10\].*\.npy"):
        found.save(tmp_path / "map.png")
    assert not (tmp_path / "map.png").exists()


def test_a_photo_has_no_depth() -> None:
    with pytest.raises(PreprocessError, match="'x' takes volumes"):
        Explainer(volume())(Path(__file__).parents[2] / "sample_models" / "blobs.png")


def test_a_volume_is_checked() -> None:
    assert all(check.ok for check in onnxcam.check(volume()))
