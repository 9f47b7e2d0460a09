"""Inputs besides the image, fixed to what is fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnxcam.errors import ModelError, UsageError
from onnxcam.graph import check_fed, image_input, load, read_graph, with_feeds
from tests.graph.building import nodes_model
from tests.nets import Array, net, normal, run

TWO = """(float[N,3,4,4] image, float[N,2] shape, int64[T] ids) => (float[N,5] y) {
  c = Conv(image, w)
  p = ReduceMean<axes=[2,3],keepdims=0>(c)
  e = Gather(table, ids)
  t = ReduceMean<axes=[0],keepdims=1>(e)
  m = Mul(p, t)
  s = ReduceSum(shape, one)
  y = Add(m, s)
}"""
WEIGHTS = {"w": normal(5, 3, 1, 1), "table": normal(7, 5, seed=1), "one": np.array([1])}
FEEDS: dict[str, Array] = {"shape": np.array([3, 4]), "ids": np.array([1, 6])}


@pytest.mark.parametrize("ir", [3, 8])
def test_what_is_fed_is_a_constant_and_the_rest_stays(ir: int) -> None:
    model = net(TWO, WEIGHTS, ir=ir)
    if ir == 3:  # there every weight is declared as an input too
        kinds = [(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer]
        model.graph.input.extend(helper.make_tensor_value_info(*kind) for kind in kinds)
    image = normal(1, 3, 4, 4)
    expected = run(model, {"image": image, "shape": np.array([[3, 4]], np.float32), "ids": FEEDS["ids"]})["y"]
    filled = with_feeds(load(model), FEEDS)  # shape: the axis of images put in front, and as float32
    np.testing.assert_array_equal(run(filled.proto, {"image": image})["y"], expected)
    graph = read_graph(filled)
    assert graph.inputs == ["image"]
    check_fed(graph, image_input(graph).name)
    assert with_feeds(load(model), {}).proto == load(model).proto


def test_what_is_not_fed_is_asked_for_with_type_and_shape() -> None:
    graph = read_graph(with_feeds(load(net(TWO, WEIGHTS)), {"shape": np.ones((1, 2))}))
    says = (
        r"more than the image 'image': also 'ids' int64 \[T\]; give each with --feed ids=FILE\.npy \(in Python: feeds\)"
    )
    with pytest.raises(ModelError, match=says):
        check_fed(graph, image_input(graph).name)


@pytest.mark.parametrize(("rows", "expected"), [(1, (1, 3, 4, 4)), (2, ("B", 3, 4, 4))])
def test_a_row_that_is_fed_is_the_model_s_only_one(rows: int, expected: tuple[int | str, ...]) -> None:
    """Its size was the images', and an exported file says what it takes; several rows may be texts for one image."""
    text = "(float[B,3,4,4] image, float[B,2] shape) => (float[B,5] y) { p = ReduceMean<axes=[2,3],keepdims=0>(image) "
    graph = read_graph(with_feeds(load(net(text + "y = Concat<axis=1>(p, shape) }")), {"shape": np.ones((rows, 2))}))
    assert graph.shape("image") == expected


def test_inputs_that_nothing_reads_need_no_value() -> None:
    """Quantizing tools leave the inputs of layers that they folded."""
    idle = "float[N,3,4,4] image, float[7] rest, int64[N] more"
    text = f"({idle}) => (float[N,2,4,4] y) {{ y = Conv(image, w) }}"
    model = net(text, {"w": normal(2, 3, 1, 1)})
    filled = with_feeds(load(model), {})
    image = normal(2, 3, 4, 4)
    every = {"image": image, "rest": normal(7), "more": np.array([1, 2])}
    np.testing.assert_array_equal(run(filled.proto, {"image": image})["y"], run(model, every)["y"])
    check_fed(read_graph(filled), "image")
    assert [value.name for value in with_feeds(load(model), {"rest": normal(7)}).proto.graph.input] == ["image"]
    with pytest.raises(UsageError, match=r"the feed 'rest' has shape \[8\]"):
        with_feeds(load(model), {"rest": normal(8)})


def test_of_two_pictures_the_one_that_is_not_fed_is_the_image() -> None:
    text = "(float[N,3,8,8] left, float[N,3,8,8] right) => (float[N,3,8,8] y) { y = Sub(left, right) }"
    graph = read_graph(with_feeds(load(net(text)), {"left": np.zeros((1, 3, 8, 8))}))
    assert image_input(graph).name == "right"


def test_of_two_pictures_the_coloured_one_is_the_image_then_the_convolved_one() -> None:
    mask = "(float[N,1,8,8] mask, float[N,3,8,8] image) => (float[N,3,8,8] y) { y = Mul(mask, image) }"
    assert image_input(read_graph(load(net(mask)))).name == "image"
    noise = "(float[N,3,8,8] a, float[N,3,8,8] b) => (float[N,3,8,8] y) { s = Neg(b) c = Conv(s, w) y = Add(a, c) }"
    assert image_input(read_graph(load(net(noise, {"w": normal(3, 3, 1, 1)})))).name == "b"


def test_an_optional_input_takes_what_is_fed_instead_of_its_default() -> None:
    model = nodes_model([helper.make_node("Mul", ["x", "scale"], ["y"])], {"scale": np.ones(1, np.float32)})
    model.graph.input.append(helper.make_tensor_value_info("scale", 1, [1]))
    x = normal(1, 4)
    np.testing.assert_array_equal(run(with_feeds(load(model), {"scale": np.array([2])}).proto, {"x": x})["y"], 2 * x)
    (kept,) = model.graph.initializer
    assert numpy_helper.to_array(kept) == 1  # the model given is not changed


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({"shapes": np.ones(2)}, "the model has no input 'shapes' to feed; did you mean shape"),
        ({"shape": np.ones((1, 3))}, r"the feed 'shape' has shape \[1, 3\], the model takes \[N, 2\]"),
        ({"shape": np.ones((1, 1, 2))}, r"the feed 'shape' has shape \[1, 1, 2\]"),
        ({"ids": np.array([0.5])}, "the feed 'ids' holds float64 values that int64, its type in the model, cannot"),
        ({"shape": np.array([1.0, 1e39])}, "the feed 'shape' holds float64 values that float32, its type in the model"),
        ({"ids": [[1], [2, 3]]}, "the feed 'ids' is no array"),
        ({"ids": np.array(["a"])}, "the feed 'ids' holds <U1, the model takes int64"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(feeds: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        with_feeds(load(net(TWO, WEIGHTS)), feeds)
    assert "\n" not in str(caught.value)


def test_what_is_infinite_may_be_fed() -> None:
    proto = with_feeds(load(net(TWO, WEIGHTS)), {"shape": [np.inf, 1]}).proto
    fed = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}["shape"]
    np.testing.assert_array_equal(fed, [[np.inf, 1]])


def test_strings_are_fed_to_strings() -> None:
    text = "(float[N,4] x, string[1] word) => (float[N,4] y, string[1] same) { y = Neg(x) same = Identity(word) }"
    filled = with_feeds(load(net(text)), {"word": np.array(["cat"])})
    assert run(filled.proto, {"x": normal(1, 4)})["same"].tolist() == ["cat"]
    with pytest.raises(UsageError, match="the feed 'word' holds int64, the model takes strings"):
        with_feeds(load(net(text)), {"word": np.array([1])})
    for broken in ("half \ud800", 3):
        with pytest.raises(UsageError, match="the feed 'word' holds something else than text"):
            with_feeds(load(net(text)), {"word": np.array([broken], object)})
