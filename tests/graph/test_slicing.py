"""What a Slice takes, against ONNX Runtime."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from onnx import helper

from onnxcam.graph.slicing import Stretch, stretches
from tests.graph.building import nodes_model
from tests.nets import run

SIZE = 3
KNOWN = {
    "one": np.array([1]), "two": np.array([2]), "last": np.array([-1]), "zero": np.array([0]), "half": np.array([0.5]),
    "pair": np.array([2, 3]), "far": np.array([9, 9]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["zero", "two"], [Stretch(0, 0, 2, 1)]),
        (["pair", "far"], [Stretch(0, 2, 9, 1), Stretch(1, 3, 9, 1)]),
        (["zero", "two", "last", "two"], [Stretch(-1, 0, 2, 2)]),
        (["zero", "two", "", "last"], [Stretch(0, 0, 2, -1)]),
        (["zero"], None),
        (["zero", "computed"], None),
        (["zero", "two", "computed"], None),
        (["zero", "two", "last", "computed"], None),
        (["zero", "two", "pair"], None),
        (["zero", "half"], None),
        (["one", "two", "zero", "zero"], None),
    ],
)
def test_what_is_known_of_a_slice(inputs: list[str], expected: list[Stretch] | None) -> None:
    assert stretches(helper.make_node("Slice", ["x", *inputs], ["y"]), KNOWN.get) == expected


def test_a_stretch_is_what_onnx_runtime_takes() -> None:
    numbers = [*product(range(-SIZE - 2, SIZE + 3), range(-SIZE - 2, SIZE + 3), (-2, -1, 1, 2))]
    cuts = [Stretch(0, *three) for three in numbers]
    nodes = [
        helper.make_node("Slice", ["x", *(f"{part}{i}" for part in ("start", "end", "axis", "step"))], [f"y{i}"])
        for i in range(len(cuts))
    ]
    weights = {f"{part}{i}": np.array([getattr(cut, part)]) for i, cut in enumerate(cuts) for part in Stretch._fields}
    model = nodes_model(nodes, weights, shape=(SIZE,), outputs=tuple(name for node in nodes for name in node.output))
    x = np.arange(SIZE, dtype=np.float32)
    assert [x[cut.of(SIZE)].tolist() for cut in cuts] == [taken.tolist() for taken in run(model, {"x": x}).values()]
