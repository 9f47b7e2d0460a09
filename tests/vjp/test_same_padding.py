"""SAME padding against differences of ONNX Runtime, which pads as if windows were not dilated."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest

from tests.nets import net
from tests.vjp.harness import Rewritten, session

SIZES = (9, 8)
POOLS = {"MaxPool": "", "AveragePool": "", "AveragePool, padding counted": ", count_include_pad=1"}


def model(op: str, same: str, strides: list[int], dilations: list[int], *, free: bool) -> onnx.ModelProto:
    """One pool or convolution with windows of 3 x 2."""
    attrs = f'auto_pad="{same}", strides={strides}, dilations={dilations}, kernel_shape=[3, 2]{POOLS.get(op, "")}'
    reads, shape = ("x, w" if op == "Conv" else "x"), ("N, 1, H, W" if free else "N, 1, 9, 8")
    weights = {"w": np.arange(1, 7, dtype=np.float32).reshape(1, 1, 3, 2)} if op == "Conv" else {}
    return net(
        f"(float[{shape}] x) => (float[N, 1, h, w] y) {{ y = {op.split(',')[0]}<{attrs}>({reads}) }}", weights, opset=19
    )


@pytest.mark.parametrize("free", [False, True], ids=["sizes known", "sizes free"])
@pytest.mark.parametrize("same", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", [*POOLS, "Conv"])
def test_the_gradient_is_that_of_differences(op: str, same: str, free: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.permutation(72).astype(np.float32).reshape(1, 1, *SIZES)
    unit = np.eye(72, dtype=np.float32).reshape(72, 1, *SIZES) / 4
    dilated = [[1, 1]] if op == "Conv" else [[1, 1], [2, 1], [2, 2], [1, 3]]  # ONNX Runtime runs no other Conv
    for strides, dilations in itertools.product([[1, 1], [2, 1], [2, 3], [4, 2]], dilated):
        proto = model(op, same, strides, dilations, free=free)
        plain = session(proto)
        high, low = (plain.run(None, {"x": x + sign * unit})[0].astype(np.float64) for sign in (1, -1))
        seed = rng.normal(size=(1, *high.shape[1:])).astype(np.float32)
        expected = ((high - low) * 2 * seed).sum(axis=(1, 2, 3)).reshape(x.shape)
        found = Rewritten(proto, "y", ["x"]).run({"x": x}, seed).gradients["x"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=f"{strides} {dilations}")
