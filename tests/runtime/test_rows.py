"""Rows give what each gives alone, whatever the model makes of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from onnxcam.errors import InputError, ModelError
from onnxcam.runtime import Rows, Session
from onnxcam.runtime.rows import close, far_from
from tests.graph.building import plain
from tests.nets import net, normal

Array = npt.NDArray[Any]
X = normal(5, 3, 4, 4, seed=2)


class Counting(Session):
    """A session that remembers how many rows each run had."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model.SerializeToString())
        self.sizes: list[int] = []

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        self.sizes.append(len(next(iter(feeds.values()))))
        return super().run(feeds, outputs)


def alone(model: onnx.ModelProto, name: str, x: Array = X) -> Array:
    session = Session(model.SerializeToString())
    return np.concatenate([session.run({"x": row[None]}, [name])[name] for row in x])


def mixing(to: list[int], batch: str = "N") -> onnx.ModelProto:
    """Rows reshaped, then normalized along the last axis: what is joined there no longer is its own."""
    text = f"(float[{batch},3,4,4] x) => (float[a,b] y) {{ f = Reshape(x, to)\n y = Softmax<axis=-1>(f) }}"
    return net(text, {"to": np.array(to)})


def test_rows_that_are_proved_independent_share_runs() -> None:
    session = Counting(plain())
    rows = Rows(session)
    np.testing.assert_allclose(rows.run({"x": X}, ["y"])["y"], alone(plain(), "y"), rtol=1e-5)
    assert session.sizes == [1, 1, 2, 5]  # one and a far one alone, the two together, then all
    rows.run({"x": X}, ["y"])
    assert session.sizes[4:] == [5]  # proved once


def test_one_row_proves_nothing_and_needs_no_proof() -> None:
    session = Counting(plain())
    rows = Rows(session)
    rows.run({"x": X[:1]}, ["y"])
    rows.run({"x": X}, ["y"])
    assert session.sizes == [1, 1, 1, 2, 5]


@pytest.mark.parametrize("to", [[1, -1], [0, -1]])
def test_equal_rows_are_proved_on_a_row_far_from_them(to: list[int]) -> None:
    """What mixes rows shows in rows that differ, so one is made up; and equal rows that do not mix share a run."""
    same = np.repeat(X[:1], 4, axis=0)
    session = Counting(mixing(to))
    found = Rows(session).run({"x": same}, ["y"])["y"]
    np.testing.assert_allclose(found, alone(mixing(to), "y", same), rtol=1e-6)
    assert session.sizes == [1, 1, 2, *([4] if to == [0, -1] else [1] * 4)]


CLASS_AND_MEAN = """(float[N,4] a, int64[N] class) => (float[N,4] y) {
  m = ReduceMax<axes=[0], keepdims=1>(a)
  d = Sub(a, m)
  k = Unsqueeze(class, one)
  e = Expand(k, like)
  f = Cast<to=1>(e)
  y = Mul(d, f)
}"""


def test_rows_of_one_image_for_several_classes_prove_nothing() -> None:
    """They differ in the class alone: their maximum is each one's own, until another image joins them."""
    model = net(CLASS_AND_MEAN, {"one": np.array([1]), "like": np.array([1, 4])})
    rows = Rows(Session(model.SerializeToString()))
    a = normal(3, 4)
    for image in (np.repeat(a[:1], 3, axis=0), a):
        found = rows.run({"a": image, "class": np.array([1, 2, 3])}, ["y"])["y"]
        np.testing.assert_array_equal(found, np.zeros((3, 4)))


def test_rows_of_one_class_prove_nothing_of_several() -> None:
    """Twice a class's weights without the mean of all rows' are its own, until a row is of another class."""
    weights = {"w": normal(5, 4), "axis": np.array([0]), "two": np.array(2, np.float32)}
    model = net(
        """(float[N,4] a, int64[N] class) => (float[N,4] y) {
          k = Gather(w, class) t = Mul(k, two) m = ReduceMean<axes = [0]>(k) d = Sub(t, m) y = Mul(d, a) }""",
        weights,
    )
    rows = Rows(Session(model.SerializeToString()))
    a = normal(3, 4)
    for classes in ([1, 1, 1], [1, 2, 3], [3, 3, 0]):
        found = rows.run({"a": a, "class": np.array(classes)}, ["y"])["y"]
        np.testing.assert_allclose(found, weights["w"][classes] * a, rtol=1e-5)


def test_what_is_proved_of_one_output_says_nothing_of_another() -> None:
    signature = "(float[N,3,4,4] x) => (float[N,48] y, float[N,3,4,4] z)"
    model = net(f"{signature} {{ y = Flatten(x)\n m = ReduceMax<axes=[0]>(x)\n z = Sub(x, m) }}")
    rows = Rows(Session(model.SerializeToString()))
    np.testing.assert_array_equal(rows.run({"x": X}, ["y"])["y"], X.reshape(5, 48))
    np.testing.assert_array_equal(rows.run({"x": X}, ["z"])["z"], np.zeros_like(X))


def test_rows_that_differ_in_nothing_that_could_be_mixed_run_one_by_one() -> None:
    session = Counting(net("(int64[N] class) => (int64[N] y) { y = Abs(class) }"))
    np.testing.assert_array_equal(Rows(session).run({"class": np.array([-1, 2])}, ["y"])["y"], [1, 2])
    assert session.sizes == [1, 1]


@pytest.mark.parametrize(
    ("row", "far"),
    [
        (np.array([[1.0, -2.0]], np.float32), [[8.0, -1.0]]),
        (np.zeros((1, 3), np.float64), [[1.0, 1.0, 1.0]]),
        (np.array([[np.nan, 1.0]]), [[-2.0, 1.0]]),
        (np.array([[60000.0, -60000.0]], np.float16), [[65504.0, -65504.0]]),
        (np.array([[1, 200]], np.uint8), [[55, 254]]),
        (np.array([[1, 200]], np.int64), [[200, 1]]),
        (np.array([7], np.int64), [7]),
        (np.array([True, False]), [False, True]),
    ],
)
def test_a_row_far_from_another(row: Array, far: list[Any]) -> None:
    found = far_from(row)
    assert found.dtype == row.dtype
    np.testing.assert_array_equal(found, far)


@pytest.mark.parametrize("to", [[1, -1], [1, 48]])
def test_rows_that_a_reshape_mixes_run_one_by_one(to: list[int]) -> None:
    """Symbolic batch, baked reshape: with [1, -1] three rows even run, and give one of three times the length."""
    model = mixing(to)
    session = Counting(model)
    found = Rows(session).run({"x": X}, ["y"])["y"]
    np.testing.assert_array_equal(found, alone(model, "y"))
    assert found.shape == (5, 48)
    assert session.sizes[-5:] == [1] * 5


@pytest.mark.parametrize("to", [[0, -1], [-1, 48], [0, 48]])
def test_reshapes_that_keep_rows_apart_are_run_together(to: list[int]) -> None:
    session = Counting(mixing(to))
    Rows(session).run({"x": X}, ["y"])
    assert session.sizes[-1] == 5


def test_training_statistics_mix_rows() -> None:
    text = """(float[N,3,4,4] x) => (float[N,3,4,4] y) {
  y, m, v = BatchNormalization<training_mode=1>(x, scale, shift, mean, var)
}"""
    model = net(
        text, {name: np.array([1, 2, 3], np.float32) + i for i, name in enumerate(["scale", "shift", "mean", "var"])}
    )
    together = Session(model.SerializeToString()).run({"x": X})["y"]
    assert np.abs(together - alone(model, "y")).max() > 0.1
    np.testing.assert_array_equal(Rows(Session(model.SerializeToString())).run({"x": X}, ["y"])["y"], alone(model, "y"))


def test_dynamic_quantization_mixes_rows() -> None:
    """One scale for the whole batch."""
    text = """(float[N,3,4,4] x) => (float[N,3,4,4] y) {
  q, s, z = DynamicQuantizeLinear(x)
  y = DequantizeLinear(q, s, z)
}"""
    model, x = net(text), X * np.array([1, 50, 1, 1, 1], np.float32).reshape(5, 1, 1, 1)
    np.testing.assert_array_equal(
        Rows(Session(model.SerializeToString())).run({"x": x}, ["y"])["y"], alone(model, "y", x)
    )


def test_one_mixed_output_of_two_is_enough() -> None:
    signature = "(float[N,3,4,4] x) => (float[N,48] y, float[N,3,4,4] z)"
    model = net(f"{signature} {{ y = Flatten(x)\n m = ReduceMax<axes=[0]>(x)\n z = Sub(x, m) }}")
    found = Rows(Session(model.SerializeToString())).run({"x": X}, ["y", "z"])
    np.testing.assert_array_equal(found["z"], np.zeros_like(X))
    np.testing.assert_array_equal(found["y"], X.reshape(5, 48))


def test_a_batch_of_one_baked_into_the_input() -> None:
    model = plain(batch="1")
    with pytest.raises(InputError):
        Session(model.SerializeToString()).run({"x": X})
    for rows in (Rows(Session(model.SerializeToString())), Rows(Session(model.SerializeToString()), may_batch=False)):
        np.testing.assert_array_equal(rows.run({"x": X}, ["y"])["y"], alone(model, "y"))


def test_a_larger_batch_baked_in_is_filled_with_copies() -> None:
    model = mixing([4, 48], batch="4")
    session = Counting(model)
    found = Rows(session, copies=4).run({"x": X}, ["y"])["y"]
    np.testing.assert_allclose(found, alone(mixing([0, 48]), "y"), rtol=1e-6)
    assert session.sizes == [4] * 5


def test_a_model_without_rows() -> None:
    text = "(float[3,4,4] x) => (float[48] y) { f = Flatten<axis=0>(x)\n s = Softmax(f)\n y = Reshape(s, to) }"
    rows = Rows(Session(net(text, {"to": np.array([48])}).SerializeToString()), bare=("x", "y"))
    np.testing.assert_allclose(rows.run({"x": X}, ["y"])["y"], alone(mixing([0, 48]), "y"), rtol=1e-6)


def test_a_single_number_is_a_row_of_a_model_without_rows() -> None:
    model = net("(float[3] x, float s) => (float y) { z = Mul(x, s)\n y = ReduceSum<keepdims=0>(z) }")
    x, s = normal(2, 3), np.array([2, 3], np.float32)
    found = Rows(Session(model.SerializeToString()), bare=("x", "s", "y")).run({"x": x, "s": s}, ["y"])["y"]
    np.testing.assert_allclose(found, x.sum(axis=1) * s, rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "(float[N,3,4,4] x) => (float y) { y = ReduceSum<keepdims=0>(x) }",
        "(float[N,3,4,4] x) => (float[a,b] y) { y = Reshape(x, pair) }",
        "(float[N,3,4,4] x) => (float[a,b,c] y) { y = Squeeze(x, zero) }",
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_outputs_without_a_row_for_each(text: str, count: int) -> None:
    rows = Rows(Session(net(text, {"pair": np.array([2, -1]), "zero": np.array([0])}).SerializeToString()))
    with pytest.raises(ModelError, match="no single row of each image"):
        rows.run({"x": X[:count]}, ["y"])


def test_what_is_the_same_for_all_images_has_a_row_for_each() -> None:
    """A position table that follows the image's size has one row, whatever the batch."""
    body = "s = Shape<start=1>(x)\n t = Concat<axis=0>(one, s)\n y = ConstantOfShape(t)"
    model = net(f"(float[N,3,4,4] x) => (float[M,3,4,4] y) {{ {body} }}", {"one": np.array([1])})
    rows = Rows(Session(model.SerializeToString()))
    assert rows.run({"x": X}, ["y"])["y"].shape == (5, 3, 4, 4)


def test_many_rows_are_run_in_portions() -> None:
    session = Counting(plain())
    x = normal(150, 3, 4, 4)
    np.testing.assert_allclose(Rows(session).run({"x": x}, ["y"])["y"], alone(plain(), "y", x), rtol=1e-4, atol=1e-7)
    assert session.sizes == [1, 1, 2, 64, 64, 22]


def test_several_inputs_go_row_by_row_together() -> None:
    model = net("(float[N,2] x, float[N,2] z) => (float[N,2] y) { y = Sub(x, z) }")
    x, z = normal(4, 2), np.repeat(normal(1, 2, seed=1), 4, axis=0)
    np.testing.assert_array_equal(Rows(Session(model.SerializeToString())).run({"x": x, "z": z}, ["y"])["y"], x - z)


def test_equal_up_to_rounding() -> None:
    a = np.array([[1000.0, 0.0]])
    assert close(a, a + 0.09)
    assert not close(a, a + 0.11)
    assert not close(a, a.T)
    assert close(np.array([np.nan, 1.0]), np.array([np.nan, 1.0]))
    assert not close(np.array([np.nan, 1.0]), np.array([1.0, np.nan]))
    assert close(np.array([np.inf]), np.array([np.inf]))
    assert not close(np.array([np.inf]), np.array([-np.inf]))
    assert close(np.zeros(3), np.zeros(3))
    assert not close(np.zeros(3), np.full(3, 1e-20))
    assert not close(np.full(3, 5e-5), np.zeros(3))
    assert close(np.array([True, False]), np.array([True, False]))
    assert not close(np.array([3], np.uint8), np.array([4], np.uint8))
