"""Which input takes the picture."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxcam.errors import ModelError
from onnxcam.graph import check_fed, image_input
from onnxcam.runtime import ImageInput
from tests.graph.building import (
    graph_of,
    nodes_model,
)
from tests.nets import net, normal

node = helper.make_node


def image_of(signature: str, body: str = "y = Identity(x)") -> ImageInput:
    return image_input(graph_of(net(f"({signature} x) => (float[a] y) {{ {body} }}")))


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("float[N,3,224,320]", ImageInput("x", "NCHW", (320, 224), 3, "float32", None)),
        ("float[1,3,224,224]", ImageInput("x", "NCHW", (224, 224), 3, "float32", 1)),
        ("float[N,224,320,3]", ImageInput("x", "NHWC", (320, 224), 3, "float32", None)),
        ("float[4,28,28,1]", ImageInput("x", "NHWC", (28, 28), 1, "float32", 4)),
        ("float[3,224,320]", ImageInput("x", "CHW", (320, 224), 3, "float32", 1)),
        ("float[224,320,3]", ImageInput("x", "HWC", (320, 224), 3, "float32", 1)),
        ("uint8[N,H,W,3]", ImageInput("x", "NHWC", (None, None), 3, "uint8", None)),
        ("float16[N,1,32,H]", ImageInput("x", "NCHW", (None, 32), 1, "float16", None)),
        ("double[N,C,H,W]", ImageInput("x", "NCHW", (None, None), None, "float64", None)),
        ("float[N,1,16,64,48]", ImageInput("x", "NCDHW", (48, 64), 1, "float32", None)),
        ("float[1,16,64,48,3]", ImageInput("x", "NDHWC", (48, 64), 3, "float32", 1)),
        ("float[N,16,3,64,48]", ImageInput("x", "NDCHW", (48, 64), 3, "float32", None)),
        ("float[N,10,64,64]", ImageInput("x", "NCHW", (64, 64), 10, "float32", None)),
    ],
)
def test_the_image_input(signature: str, expected: ImageInput) -> None:
    assert image_of(signature) == expected


def test_a_transpose_tells_where_the_channels_are_when_sizes_do_not() -> None:
    assert image_of("float[N,H,W,C]", "y = Transpose<perm=[0,3,1,2]>(x)").layout == "NHWC"
    assert image_of("float[N,4,4,3]", "y = Transpose<perm=[0,3,1,2]>(x)").layout == "NHWC"
    assert image_of("float[N,4,4,3]", "y = Transpose<perm=[0,2,3,1]>(x)").layout == "NCHW"
    assert image_of("float[H,W,C]", "y = Transpose<perm=[2,0,1]>(x)").layout == "HWC"


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ("float[N,28,28]", "y = Identity(x)"),
        ("float[N,28,20]", "s = Constant<value_ints=[-1,28,20,1]>() y = Reshape(x, s)"),
        ("float[N,28,20]", "one = Constant<value_ints=[1]>() c = Cast<to=1>(x) y = Unsqueeze(c, one)"),
    ],
)
def test_a_grey_image_without_an_axis_of_channels(signature: str, body: str) -> None:
    size = (int(signature[-3:-1]), 28)
    assert image_of(signature, body) == ImageInput("x", "NHW", size, 1, "float32", None)


@pytest.mark.parametrize(
    "signature",
    [
        "float[N,100]",
        "int64[N,3,8,8]",
        "float[N,16,8]",
        "float[N,T,T]",
        "float[16,8,8]",
        "bool[N,3,8,8]",
        "float[N,3,8,8,8,8]",
    ],
)
def test_inputs_that_are_no_image(signature: str) -> None:
    with pytest.raises(ModelError, match=r"no input that takes an image .*'x'"):
        image_of(signature)


def test_inputs_of_other_kinds_are_refused() -> None:
    model = nodes_model([node("SequenceAt", ["x", "zero"], ["y"])], {"zero": np.array(0)})
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8]))
    with pytest.raises(ModelError, match="no input that takes an image"):
        image_input(graph_of(model))


def test_two_images() -> None:
    model = net("(float[N,3,8,8] left, float[N,3,8,8] right) => (float[N,3,8,8] y) { y = Sub(left, right) }")
    with pytest.raises(ModelError, match=r"several inputs that could take the image .*'left'.*'right'"):
        image_input(graph_of(model))


def test_more_inputs_than_the_image() -> None:
    model = net(
        "(float[N,3,8,8] image, float[N,2] im_shape) => (float[N,5] y) {\n"
        " f = Flatten(image)\n y = Concat<axis=1>(f, im_shape) }"
    )
    graph = graph_of(model)
    assert image_input(graph).name == "image"
    with pytest.raises(ModelError, match=r"the image 'image': also 'im_shape' float32 \[N, 2\]; give each"):
        check_fed(graph, "image")


def test_an_optional_input_is_not_asked_for() -> None:
    model = nodes_model([node("Mul", ["x", "scale"], ["y"])], {"scale": np.ones(1, np.float32)}, shape=("N", 3, 8, 8))
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
    assert image_input(graph_of(model)).name == "x"


def test_a_flat_image_is_told_its_shape() -> None:
    text = (
        "(float[N,192] x) => (float[N,K] y) { to = Constant<value_ints=[0,8,8,3]>() r = Reshape(x, to) y = Flatten(r) }"
    )
    with pytest.raises(ModelError, match=r"'x' is flat and made \[N, 8, 8, 3\] first: declare the input so"):
        image_input(graph_of(net(text, {})))


@pytest.mark.parametrize(("perm", "layout"), [([0, 4, 1, 2, 3], "NDHWC"), ([0, 2, 1, 3, 4], "NDCHW")])
def test_a_film_is_read_as_it_is_turned(perm: list[int], layout: str) -> None:
    text = f"(float[N,3,3,16,3] x) => (float[A] y) {{ t = Transpose<perm={perm}>(x) y = Flatten(t) }}"
    assert image_input(graph_of(net(text, {}))).layout == layout


@pytest.mark.parametrize(
    ("sizes", "layout"),
    [
        ("4,32,32,3", "NDHWC"),
        ("1,32,32,3", "NDHWC"),
        ("3,32,32,1", "NDHWC"),
        ("4,3,32,32", "NDCHW"),
        ("3,4,32,32", "NCDHW"),
        ("32,32,32,32", "NCDHW"),
    ],
)
def test_the_sides_of_a_film_are_longer_than_its_channels(sizes: str, layout: str) -> None:
    assert image_of(f"float[N,{sizes}]").layout == layout


def test_what_is_convolved_as_it_is_has_its_channels_first() -> None:
    text = "(float[N,4,32,32,3] x) => (float[N,A,B,C,D] y) { y = Conv(x, w) }"
    assert image_input(graph_of(net(text, {"w": normal(2, 4, 1, 1, 1)}))).layout == "NCDHW"
