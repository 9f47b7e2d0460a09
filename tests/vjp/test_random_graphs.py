"""Rules composed: random graphs against float64 differences."""

from __future__ import annotations

from random import Random

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.vjp.harness import Function, Rewritten, check
from tests.vjp.random_graphs import Drawn, draw_graph

SEEDS = st.integers(0, 2**32 - 1)  # a graph is drawn from a seed alone: a failure names it
QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck), "database": None}


def in_float64(model: onnx.ModelProto, output: str) -> Function:
    """The graph as a float64 function of its inputs."""
    double = onnx.ModelProto()
    double.CopyFrom(model)
    for value in (*double.graph.input, *double.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in double.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in scales(model):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    evaluator = ReferenceEvaluator(double)
    return lambda feeds: np.asarray(evaluator.run([output], feeds)[0])


def scales(model: onnx.ModelProto) -> set[str]:
    """Initializers that stay float32: the scales of Resize."""
    return {node.input[2] for node in model.graph.node if node.op_type == "Resize"}


def complaint(rewritten: Rewritten, function: Function, drawn: Drawn, point: int) -> str:
    """What is wrong at one random point; empty when nothing is."""
    rng = np.random.default_rng(point)
    feeds = {name: rng.normal(size=shape).astype(np.float32).astype(np.float64) for name, shape in drawn.shapes.items()}
    try:
        check(rewritten.run(feeds), function, np.float32, slack=20)
    except AssertionError as error:
        return str(error)
    return ""


def holds(seed: int) -> None:
    """A graph may miss at a point that lies at a kink; it fails when it misses at two points."""
    drawn = draw_graph(Random(seed))
    rewritten = Rewritten(drawn.model, drawn.output, list(drawn.shapes))
    function = in_float64(drawn.model, drawn.output)
    complaints = (complaint(rewritten, function, drawn, point) for point in range(2))
    if all(found := list(complaints)):
        pytest.fail("\n".join([*found, onnx.printer.to_text(drawn.model.graph)]))


@settings(max_examples=60, **QUIET)
@given(SEEDS)
def test_random_graphs(seed: int) -> None:
    holds(seed)


@pytest.mark.fuzz
@settings(max_examples=2000, **QUIET)
@given(SEEDS)
def test_many_random_graphs(seed: int) -> None:
    holds(seed)
