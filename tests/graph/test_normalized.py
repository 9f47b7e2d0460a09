"""Which range of pixels a model wants, told by the normalization in its graph."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam.graph import white_of
from tests.graph.building import graph_of
from tests.nets import Array, net, normal

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BGR = np.array([103.939, 116.779, 123.68])


def channels(values: Array) -> Array:
    return values.astype(np.float32).reshape(1, 3, 1, 1)


NUMBERS: dict[str, Array] = {
    "w": normal(4, 3, 3, 3), "byte": np.float32(1 / 255), "half": np.float32(1 / 127.5), "one": np.float32([1.0]),
    "middle": np.float32(127.5), "two": np.float32(2), "large": np.float32(255), "flat": np.float32(0.5),
    "mean": channels(MEAN), "std": channels(STD), "bgr": channels(BGR), "sharper": channels(1 / np.sqrt(STD)),
    "mean_of_bytes": channels(255 * MEAN), "by_std": channels(1 / STD / 255), "tiny": np.float32(1e-3),
    "last": normal(8), "k": np.ones(3, np.float32), "image": normal(1, 3, 8, 8),
    "back": np.array([2, 1, 0]), "sides": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "sizes": np.array([1, 3, 16, 16]),
    "i0": np.array(0), "i1": np.array(1), "i2": np.array(2), "ch": np.array([1]),
    "a0": np.float32(0.458), "b0": np.float32(-0.03), "a1": np.float32(0.448), "b1": np.float32(-0.088),
    "a2": np.float32(0.45), "b2": np.float32(-0.188),
}  # fmt: skip
SPLIT = "c0, c1, c2 = Split<axis=1, num_outputs=3>(x)\n"
FOCUS = (
    "o = Constant<value_ints=[0]>() p = Constant<value_ints=[1]>() e = Constant<value_ints=[8]>()\n"
    "d = Constant<value_ints=[3]>() t = Constant<value_ints=[2]>()\n"
    "l = Slice(x, o, e, d, t) r = Slice(x, p, e, d, t) f = Concat<axis=2>(l, r)\n"
)


def white(body: str, signature: str = "float[N,3,8,8] x") -> float | None:
    """Of a graph that ends in a convolution of what `body` makes of x, y."""
    text = f"({signature}) => (float[A,B,C,D] z) {{ {body}\n z = Conv(y, w) }}"
    return white_of(graph_of(net(text, NUMBERS, opset=18)), "x")


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul(x, byte)",
        "y = Div(x, large)",
        "a = Mul(x, half) y = Sub(a, one)",
        "a = Sub(x, middle) y = Div(a, middle)",
        "a = Mul(x, byte) b = Sub(a, mean) y = Div(b, std)",
        "a = Mul(x, byte) b = Sub(a, mean) c = Div(b, std) y = Mul(c, sharper)",  # Keras' EfficientNet
        "a = Sub(x, mean_of_bytes) y = Mul(by_std, a)",
        "a = Gather<axis=1>(x, back) y = Sub(a, bgr)",
        SPLIT + "c = Concat<axis=1>(c2, c1, c0) n = Sub(c, bgr) y = Identity(n)",
        SPLIT + "d0 = Mul(c0, byte) d1 = Mul(c1, byte) d2 = Mul(c2, byte) y = Concat<axis=1>(d0, d1, d2)",
        SPLIT + "d0 = Mul(c0, byte) d1 = Mul(c1, half) d2 = Mul(c2, half) y = Concat<axis=1>(d2, d1, d0)",
        "a = Sub(large, x) y = Div(a, large)",
        'a = Resize<mode="linear">(x, , , sizes) b = Pad(a, sides) y = Mul(b, byte)',
        FOCUS + "y = Mul(f, byte)",
        "s = Shape(x) a = Reshape(x, s) y = Mul(a, byte)",
    ],
)
def test_bytes_are_wanted(body: str) -> None:
    assert white(body) == 255


@pytest.mark.parametrize(
    "body",
    [
        "a = Sub(x, mean) y = Div(a, std)",
        "a = Mul(x, two) y = Sub(a, one)",
        "a = Sub(x, flat) y = Div(a, flat)",
        "y = Sub(x, flat)",
        "y = Mul(x, large)",
        "a = Mul(x, large) b = Gather<axis=1>(a, back) y = Sub(b, bgr)",
    ],
)
def test_shares_of_one_are_wanted(body: str) -> None:
    assert white(body) == 1


@pytest.mark.parametrize(
    "body",
    [
        "y = Identity(x)",
        "y = Mul(x, x)",
        "y = Relu(x)",
        "y = Mul(x, two)",
        "y = Mul(x, tiny)",
        "y = Add(x, image)",
        "y = Mul(x, last)",  # along the width, each its own way
        "y = Div(one, x)",
        "a = Add(x, one) y = Mul(a, middle)",  # of -1..1
        "a = Mul(x, flat) b = Add(a, flat) c = Sub(b, mean) y = Div(c, std)",  # the same
        "m = ReduceMean(x) y = Sub(x, m)",
        "a = Mul(x, byte) y = Add(a, x)",
        SPLIT + "d0 = Mul(c0, byte) y = Concat<axis=1>(d0, c1, c2)",
    ],
)
def test_nothing_is_told(body: str) -> None:
    assert white(body) is None


def test_torchvision_turns_its_own_normalization_into_that_of_tensorflow() -> None:
    """Its Inception (`transform_input`) is fed as all its networks, channel by channel."""
    ways = [
        f"g{i} = Gather<axis=1>(x, i{i}) u{i} = Unsqueeze(g{i}, ch) m{i} = Mul(u{i}, a{i}) n{i} = Add(m{i}, b{i})\n"
        for i in range(3)
    ]
    assert white("".join(ways) + "y = Concat<axis=1>(n0, n1, n2)") is None


def test_channels_last_and_other_types() -> None:
    turned = "c = Cast<to=1>(x) a = Mul(c, half) b = Sub(a, one) y = Transpose<perm=[0,3,1,2]>(b)"
    assert white(turned, "float16[N,8,8,3] x") == 255


def test_readers_have_to_agree() -> None:
    assert white("s = Sigmoid(x) a = Mul(x, byte) y = Add(a, s)") is None
    assert white("c0 = Mul(x, byte) s = Sigmoid(c0) y = Add(c0, s)") == 255


def test_a_learned_normalization_tells_no_range() -> None:
    assert white("y = BatchNormalization(x, k, k, k, k)") is None
