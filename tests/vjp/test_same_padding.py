"""SAME padding against differences of ONNX Runtime, which pads as if windows were not dilated."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest

from onnxcam.errors import UnsupportedOpError
from tests.nets import net
from tests.vjp.harness import Rewritten, session

POOLS = {"MaxPool": "", "AveragePool": "", "AveragePool, padding counted": ", count_include_pad=1"}


def sizes_of(op: str) -> tuple[int, int]:
    """Sizes that padding of -1 comes of, for strides of 4 and 3; ONNX Runtime runs no MaxPool with it."""
    return (9, 8) if op == "MaxPool" else (8, 9)


def model(op: str, same: str, strides: list[int], dilations: list[int], *, free: bool) -> onnx.ModelProto:
    """One pool or convolution with windows of 3 x 2."""
    attrs = f'auto_pad="{same}", strides={strides}, dilations={dilations}, kernel_shape=[3, 2]{POOLS.get(op, "")}'
    reads, shape = ("x, w" if op == "Conv" else "x"), ("N, 1, H, W" if free else f"N, 1, {str(sizes_of(op))[1:-1]}")
    weights = {"w": np.arange(1, 7, dtype=np.float32).reshape(1, 1, 3, 2)} if op == "Conv" else {}
    return net(
        f"(float[{shape}] x) => (float[N, 1, h, w] y) {{ y = {op.split(',')[0]}<{attrs}>({reads}) }}", weights, opset=19
    )


def leaves_out(strides: list[int], dilations: list[int]) -> bool:
    """Whether windows see a pixel that padding of -1 cuts off: all but averages take notice of it."""
    return any(step > size and apart > 1 for size, step, apart in zip([3, 2], strides, dilations, strict=True))


@pytest.mark.parametrize("free", [False, True], ids=["sizes known", "sizes free"])
@pytest.mark.parametrize("same", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", [*POOLS, "Conv"])
def test_the_gradient_is_that_of_differences(op: str, same: str, free: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.permutation(72).astype(np.float32).reshape(1, 1, *sizes_of(op))
    unit = np.eye(72, dtype=np.float32).reshape(72, 1, *sizes_of(op)) / 4
    dilated = [[1, 1]] if op == "Conv" else [[1, 1], [2, 1], [2, 2], [1, 3]]  # ONNX Runtime runs no other Conv
    for strides, dilations in itertools.product([[1, 1], [2, 1], [2, 3], [4, 2]], dilated):
        proto = model(op, same, strides, dilations, free=free)
        if op.startswith("AveragePool") and leaves_out(strides, dilations):
            with pytest.raises(UnsupportedOpError, match="SAME padding is negative"):
                Rewritten(proto, "y", ["x"])
            continue
        plain = session(proto)
        high, low = (plain.run(None, {"x": x + sign * unit})[0].astype(np.float64) for sign in (1, -1))
        seed = rng.normal(size=(1, *high.shape[1:])).astype(np.float32)
        expected = ((high - low) * 2 * seed).sum(axis=(1, 2, 3)).reshape(x.shape)
        found = Rewritten(proto, "y", ["x"]).run({"x": x}, seed).gradients["x"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=f"{strides} {dilations}")
