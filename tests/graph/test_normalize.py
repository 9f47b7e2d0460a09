"""One spelling for everything, with the values unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.graph import Graph, load, read_graph
from onnxcam.graph.normalize import normalize
from onnxcam.vjp import differentiate
from tests.graph.building import graph_of, image_for, nodes_model
from tests.nets import net, run

Array = npt.NDArray[Any]
X = np.array([[-2, -0.5, 0.5, 3], [1, -1, 2, -2]], np.float32)
node = helper.make_node


def normalized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The normalized model, which still gives what the model gave."""
    before = model.SerializeToString()
    proto = normalize(load(model))
    assert model.SerializeToString() == before
    expected = run(model, {"x": X})
    for name, value in run(proto, {"x": X}).items():
        np.testing.assert_array_equal(value, expected[name])
    return proto


def ops(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


def function(name: str, *nodes: onnx.NodeProto, opset: int = 17, **others: Any) -> onnx.FunctionProto:
    """A function a -> b of the domain `local`."""
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_function(others.pop("domain", "local"), name, ["a"], ["b"], list(nodes), imports, **others)


def call(name: str, source: str, target: str, **others: Any) -> onnx.NodeProto:
    return node(name, [source], [target], domain="local", **others)


# -- functions --------------------------------------------------------------------------------------------


def test_functions_are_inlined_those_in_functions_too() -> None:
    inner = function("Inner", node("Neg", ["a"], ["b"]))
    outer = function("Outer", call("Inner", "a", "t"), node("Relu", ["t"], ["b"]))
    model = nodes_model([call("Outer", "x", "m"), call("Outer", "m", "y")], functions=(outer, inner))
    proto = normalized(model)
    assert ops(proto) == ["Neg", "Relu", "Neg", "Relu"]
    assert not proto.functions
    assert "m" in graph_of(model)


def test_functions_with_attributes_and_overloads() -> None:
    leaky = onnx.parser.parse_function(
        '<opset_import: ["" : 17], domain: "local"> Leaky<alpha>(a) => (b) { b = LeakyRelu<alpha: float = @alpha>(a) }'
    )
    one = function("F", node("Neg", ["a"], ["b"]), overload="one")
    two = function("F", node("Exp", ["a"], ["b"]), overload="two")
    nodes = [
        call("Leaky", "x", "m", alpha=0.5),
        call("F", "m", "n", overload="one"),
        call("F", "n", "y", overload="two"),
    ]
    assert ops(normalized(nodes_model(nodes, functions=(leaky, one, two)))) == ["LeakyRelu", "Neg", "Exp"]


def test_inlined_names_do_not_clash() -> None:
    twice = function("Twice", node("Neg", ["a"], ["t"]), node("Exp", ["t"], ["b"]))
    nodes = [call("Twice", "x", "t"), call("Twice", "t", "y")]
    graph = graph_of(nodes_model(nodes, functions=(twice,)))
    assert len(graph.producer) == 4
    normalized(nodes_model(nodes, functions=(twice,)))


def test_a_function_that_bears_the_name_of_an_operator_is_not_called() -> None:
    """ONNX Runtime runs the operator."""
    shadowed = function("HardSwish", node("Neg", ["a"], ["b"]), domain="")
    proto = normalized(nodes_model([node("HardSwish", ["x"], ["y"])], functions=(shadowed,)))
    assert ops(proto) == ["HardSwish"]
    assert not proto.functions


@pytest.mark.parametrize("opset", [13, 18])
def test_a_function_with_another_opset_is_refused(opset: int) -> None:
    """onnx.inliner leaves its calls where they are, and says nothing."""
    op = "ReduceMax" if opset == 18 else "Reshape"  # its axes became an input at 18; at 14 it got an attribute
    other = function("F", node(op, ["a"] if opset == 18 else ["a", "a"], ["b"]), opset=opset)
    with pytest.raises(ModelError, match=r"function F .* uses another opset"):
        graph_of(nodes_model([call("F", "x", "y")], functions=(other,)))


@pytest.mark.parametrize("opset", [13, 18])
def test_a_function_whose_operators_mean_the_same_in_both_opsets_is_inlined(opset: int) -> None:
    other = function("F", node("Neg", ["a"], ["b"]), opset=opset)
    assert ops(normalized(nodes_model([call("F", "x", "y")], functions=(other,)))) == ["Neg"]


def test_a_function_with_another_opset_that_nobody_calls_is_forgotten() -> None:
    unused = function("F", node("Neg", ["a"], ["b"]), opset=13)
    assert ops(normalized(nodes_model([node("Neg", ["x"], ["y"])], functions=(unused,)))) == ["Neg"]


def test_a_function_that_calls_itself_is_refused() -> None:
    there, back = function("There", call("Back", "a", "b")), function("Back", call("There", "a", "b"))
    for functions in ((function("F", call("F", "a", "b")), there, back), (there, back)):
        with pytest.raises(ModelError, match="calls itself"):
            graph_of(nodes_model([call("There", "x", "y")], functions=functions))


def test_functions_that_unfold_without_measure_are_refused() -> None:
    """Thirty functions that call the next one twice: a billion nodes."""
    functions = [function(f"F{i}", call(f"F{i + 1}", "a", "t"), call(f"F{i + 1}", "t", "b")) for i in range(30)]
    functions.append(function("F30", node("Neg", ["a"], ["b"])))
    with pytest.raises(ModelError, match="more than any real model has"):
        graph_of(nodes_model([call("F0", "x", "y")], functions=tuple(functions)))


# -- domains and opsets -------------------------------------------------------------------------------------


def test_the_default_domain_has_one_spelling_and_the_last_of_two_versions() -> None:
    model = nodes_model([node("Relu", ["x"], ["h"], domain="ai.onnx"), node("Softmax", ["h"], ["y"], domain="")])
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx", 17)])
    proto = normalize(load(model))
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 17)]
    assert {n.domain for n in proto.graph.node} == {""}


def test_a_domain_in_use_is_imported() -> None:
    proto = normalized(nodes_model([node("Gelu", ["x"], ["y"], domain="com.microsoft")]))
    assert ("com.microsoft", 1) in [(entry.domain, entry.version) for entry in proto.opset_import]


@pytest.mark.parametrize("imports", [[], [("com.microsoft", 1)], [("", 0)], [("", -17)]])
def test_no_opset(imports: list[tuple[str, int]]) -> None:
    model = nodes_model([node("Relu", ["x"], ["y"])])
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*entry) for entry in imports)
    with pytest.raises(ModelError, match="which opset it uses"):
        graph_of(model)


@pytest.mark.parametrize(("opset", "became"), [(7, 16), (11, 16), (16, 16), (17, 17), (21, 21)])
def test_old_opsets_become_16_and_newer_ones_stay(opset: int, became: int) -> None:
    model = nodes_model([node("Relu", ["x"], ["y"])], opset=opset)
    model.ir_version = 3
    graph = graph_of(model)
    assert graph.opset == became
    assert graph.proto.ir_version == 8


# -- constants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ({"value": numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32))}, [1, 2, 3, 4]),
        ({"value_float": 2.5}, 2.5),
        ({"value_floats": [1.0, 2.0, 3.0, 4.0]}, [1, 2, 3, 4]),
    ],
)
def test_constant_nodes_become_initializers(attribute: dict[str, Any], value: Any) -> None:
    proto = normalized(nodes_model([node("Constant", [], ["c"], **attribute), node("Mul", ["x", "c"], ["y"])]))
    assert ops(proto) == ["Mul"]
    np.testing.assert_array_equal(numpy_helper.to_array(proto.graph.initializer[0]), np.array(value, np.float32))


@pytest.mark.parametrize(("attribute", "value"), [({"value_int": 1}, 1), ({"value_ints": [0, 3]}, [0, 3])])
def test_integer_constants(attribute: dict[str, Any], value: Any) -> None:
    nodes = [node("Constant", [], ["c"], **attribute), node("Gather", ["x", "c"], ["y"], axis=1)]
    proto = normalized(nodes_model(nodes))
    (tensor,) = proto.graph.initializer
    assert (tensor.name, tensor.data_type) == ("c", TensorProto.INT64)
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), value)


def test_constants_of_strings_stay_nodes() -> None:
    proto = normalized(nodes_model([node("Constant", [], ["s"], value_string="a"), node("Neg", ["x"], ["y"])]))
    assert sorted(ops(proto)) == ["Constant", "Neg"]


@pytest.mark.parametrize("attributes", [{}, {"value_float": 1.0, "value_int": 1}])
def test_a_constant_of_nothing_or_of_two_things(attributes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="Constant 'c' does not hold one value"):
        graph_of(nodes_model([node("Constant", [], ["c"], **attributes), node("Mul", ["x", "c"], ["y"])]))


def sparse(indices: Array, dims: tuple[int, ...] = (4, 2)) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "w")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(indices, "i"), dims)


@pytest.mark.parametrize("indices", [np.array([1, 6]), np.array([[0, 1], [3, 0]])])
def test_sparse_weights_become_dense(indices: Array) -> None:
    model = nodes_model([node("MatMul", ["x", "w"], ["y"])])
    model.graph.sparse_initializer.append(sparse(indices))
    proto = normalized(model)
    expected = np.zeros((4, 2), np.float32)
    expected[0, 1], expected[3, 0] = 5, 7
    np.testing.assert_array_equal(numpy_helper.to_array(proto.graph.initializer[0]), expected)


def test_a_sparse_constant() -> None:
    nodes = [node("Constant", [], ["w"], sparse_value=sparse(np.array([1, 6]))), node("MatMul", ["x", "w"], ["y"])]
    dense = graph_of(nodes_model(nodes)).constant("w")
    assert dense is not None
    np.testing.assert_array_equal(np.nonzero(dense), [[0, 3], [1, 0]])


@pytest.mark.parametrize(("indices", "dims"), [([1, 99], (4, 2)), ([1, 6], (-4, 2)), ([1, 2], (2**31, 2**31))])
def test_a_sparse_weight_that_is_broken(indices: list[int], dims: tuple[int, ...]) -> None:
    model = nodes_model([node("MatMul", ["x", "w"], ["y"])])
    model.graph.sparse_initializer.append(sparse(np.array(indices), (4, 2)))
    del model.graph.sparse_initializer[0].dims[:]
    model.graph.sparse_initializer[0].dims.extend(dims)
    with pytest.raises(ModelError, match="sparse weight"):
        graph_of(model)


def test_a_default_of_a_function_is_read_where_a_call_gives_none() -> None:
    """y = x + 3 + 5, the first by default; through a function that hands nothing on."""
    constant = node("Constant", [], ["k"])
    constant.attribute.add(name="value_float", ref_attr_name="v", type=onnx.AttributeProto.FLOAT)
    inner = function("F", constant, node("Add", ["a", "k"], ["b"]))
    inner.attribute_proto.append(helper.make_attribute("v", 3.0))
    outer = function("G", call("F", "a", "b"))
    given = call("F", "h", "y")
    given.attribute.append(helper.make_attribute("v", 5.0))
    graph = graph_of(nodes_model([call("G", "x", "h"), given], functions=(inner, outer)))
    assert [float(graph.model.array(tensor)) for tensor in graph.proto.graph.initializer] == [3, 5]


def test_an_attribute_handed_down_counts_every_time_it_is_put_in() -> None:
    """A megabyte, put in 2^10 times by functions that call each other twice; the calls are the last megabyte."""
    functions = []
    for level in range(11):
        constant = node("Constant", [], ["k"]), node("Add", ["a", "k"], ["b"])
        calls = call(f"F{level - 1}", "a", "m"), call(f"F{level - 1}", "m", "b")
        body = calls if level else constant
        for inner in calls if level else constant[:1]:
            name = "v" if level else "value"
            inner.attribute.add(name=name, ref_attr_name="v", type=onnx.AttributeProto.TENSOR)
        functions.append(function(f"F{level}", *body))
        functions[-1].attribute.append("v")
    outer = call("F10", "x", "y")
    outer.attribute.append(helper.make_attribute("v", numpy_helper.from_array(np.zeros(2**18, np.float32))))
    with pytest.raises(ModelError, match="unfold to 2,048 nodes of 1,025 MB"):
        graph_of(nodes_model([outer], functions=functions))


def test_a_weight_that_is_also_an_input_is_a_weight() -> None:
    model = nodes_model([node("Mul", ["x", "w"], ["y"])], {"w": np.arange(4, dtype=np.float32)})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    model.ir_version = 4
    graph = read_graph(load(model))
    assert graph.inputs == ["x"]
    np.testing.assert_array_equal(graph.constant("w"), np.arange(4))


# -- order --------------------------------------------------------------------------------------------------


def test_nodes_are_sorted_and_stay_in_place_where_they_are() -> None:
    nodes = [
        node("Exp", ["b"], ["c"]),
        node("Neg", ["a"], ["b"]),
        node("Abs", ["x"], ["a"]),
        node("Add", ["c", "a"], ["y"]),
    ]
    assert ops(normalized(nodes_model(nodes))) == ["Abs", "Neg", "Exp", "Add"]
    ordered = [
        node("Neg", ["x"], ["a"]),
        node("Abs", ["x"], ["b"]),
        node("Exp", ["x"], ["c"]),
        node("Sum", ["c", "b", "a"], ["y"]),
    ]
    assert ops(normalized(nodes_model(ordered))) == ["Neg", "Abs", "Exp", "Sum"]


def test_what_a_subgraph_captures_comes_before_it() -> None:
    def branch(op: str) -> onnx.GraphProto:
        inner = helper.make_graph([node(op, ["late"], ["t"])], "b", [], [helper.make_tensor_value_info("t", 1, None)])
        return helper.make_graph(
            [node("If", ["always"], ["u"], then_branch=inner, else_branch=inner)], "a", [],
            [helper.make_tensor_value_info("u", 1, None)],
        )  # fmt: skip

    nodes = [
        node("If", ["always"], ["y"], then_branch=branch("Neg"), else_branch=branch("Exp")),
        node("Abs", ["x"], ["late"]),
    ]
    model = load(nodes_model(nodes, {"always": np.array(True)}))
    graph = Graph(model, normalize(model))
    assert [n.op_type for n in graph.nodes] == ["Abs", "If"]
    assert graph.consumers["late"] == [1]
    assert graph.ancestors(["y"]) == {0, 1}


def test_a_deep_chain_in_reverse_order_is_sorted() -> None:
    count = 5000
    nodes = [node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in reversed(range(count))]
    nodes[-1].input[0], nodes[0].output[0] = "x", "y"
    model = load(nodes_model(nodes))
    proto = normalize(model)
    assert [n.output[0] for n in proto.graph.node] == [*(f"v{i}" for i in range(1, count)), "y"]


def test_a_cycle() -> None:
    for nodes in (
        [node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"]), node("Abs", ["b"], ["y"])],
        [node("Add", ["x", "y"], ["y"])],
    ):
        with pytest.raises(ModelError, match=r"depends on its own output \(a cycle\)"):
            graph_of(nodes_model(nodes))


def test_a_value_that_nothing_makes() -> None:
    with pytest.raises(ModelError, match="Add 'y' reads 'ghost', which nothing makes"):
        graph_of(nodes_model([node("Add", ["x", "ghost"], ["y"])]))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Neg", ["x"], ["y"]), node("Abs", ["x"], ["y"])],
        [node("Split", ["x"], ["y", "y"], axis=1)],
        [node("Neg", ["x"], ["x"]), node("Abs", ["x"], ["y"])],
        [node("Neg", ["x"], ["w"]), node("Add", ["x", "w"], ["y"])],
    ],
)
def test_a_value_that_is_made_twice(nodes: list[onnx.NodeProto]) -> None:
    with pytest.raises(ModelError, match=r"is made twice|depends on its own output"):
        graph_of(nodes_model(nodes, {"w": np.ones(4, np.float32)}))


# -- shapes -------------------------------------------------------------------------------------------------


def test_shapes_of_unknown_size_get_names_of_their_own() -> None:
    """Exporters write "None" for sizes that differ."""
    model = nodes_model([node("Neg", ["x"], ["y"])], shape=("None", "None"))
    assert graph_of(model).shape("y") == ("x.0", "x.1")
    for junk in ("?", "", "-1", "unk__31"):
        assert graph_of(nodes_model([node("Neg", ["x"], ["y"])], shape=(junk, 4))).shape("y") == ("x.0", 4)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert graph_of(model).shape("y") == ("x.0", "x.1")
    assert graph_of(nodes_model([node("Neg", ["x"], ["y"])], shape=("batch", 4))).shape("y") == ("batch", 4)


def test_stale_claims_about_shapes_are_forgotten() -> None:
    model = net("(float[N,3,8,8] x) => (float[N,7] y) { h = Relu(x)\n y = Flatten(h) }")
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [5, 5]))
    graph = graph_of(model)
    assert graph.shape("h") == ("N", 3, 8, 8)
    assert graph.shape("y") == ("N", 192)


def test_branches_may_call_different_sizes_alike() -> None:
    branch = "(float[P,8] {x}{i}) {{ {x}{i} = {op}({x}) }}"
    ifs = [
        f"{made} = If(c) <then_branch = t () => {branch.format(x=x, i=1, op='Tanh')}, "
        f"else_branch = e () => {branch.format(x=x, i=2, op='Neg')}>"
        for made, x in (("a", "x"), ("b", "z"))
    ]
    text = f"(float[N,8] x, float[K,8] z, bool c) => (float[A,8] y) {{ {' '.join(ifs)} y = Mul(a, b) }}"
    graph = graph_of(net(text))
    assert (graph.shape("a"), graph.shape("b")) == (("N", 8), ("K", 8))


@pytest.mark.parametrize("version", [2**31, 2**63 - 1, -1])
def test_an_opset_that_cannot_be(version: int) -> None:
    proto = net("(float[N,2] x) => (float[N,2] y) { y = Relu(x) }")
    proto.opset_import.add(domain="com.microsoft", version=version)
    with pytest.raises(ModelError, match=rf"^the model says it uses an opset {version}, which cannot be"):
        normalize(load(proto))


def test_a_model_without_any_operator_of_the_default_domain_needs_no_opset_of_it() -> None:
    model = nodes_model([node("Gelu", ["x"], ["y"], domain="com.microsoft")])
    del model.opset_import[:]
    model.opset_import.add(domain="com.microsoft", version=1)
    x = image_for(model, 1)
    found = differentiate(model, of="y", wrt="x")
    slope = run(found.model, {"x": x, found.seed: np.ones_like(x)})[found.gradients["x"]]
    assert slope.min() > -0.2
    assert 1 < slope.max() < 1.2  # as Gelu's are
    model.graph.node.append(node("Relu", ["y"], ["z"]))
    with pytest.raises(ModelError, match="does not say which opset it uses"):
        normalize(load(model))


def test_an_ir_version_that_cannot_be() -> None:
    proto = net("(float[N,2] x) => (float[N,2] y) { y = Relu(x) }")
    proto.ir_version = 2**31
    with pytest.raises(ModelError, match=r"^the model says it is of IR version 2147483648, which cannot be"):
        normalize(load(proto))


def test_half_a_spectrum_has_the_shape_of_half_a_spectrum() -> None:
    """onnx's inference takes an STFT that does not say so for a whole one."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[1, 12, 1] x) => (float[] y)
        <int64 step = {4}, int64 length = {6}> { s = STFT(x, step, , length) y = Relu(s) }"""
    )
    assert graph_of(model).shape("y") == (1, 2, 4, 2)
    assert run(model, {"x": np.zeros((1, 12, 1), np.float32)})["y"].shape == (1, 2, 4, 2)
