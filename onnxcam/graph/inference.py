"""Types and shapes of all values, and the small values that no input moves: each settles more of the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.graph.expanding import spell_lists_of_sizes
from onnxcam.graph.load import Model, serialize
from onnxcam.graph.loops import final_states, without_made_up
from onnxcam.graph.measures import measured
from onnxcam.graph.nodes import attributes, optional, reads, subgraphs, with_nodes
from onnxcam.graph.parts import SMALL, Wired, open_nodes, part_of, wired
from onnxcam.graph.sizing import Question, Sizing
from onnxcam.graph.telling import false_sizes, fused_outputs, leave_untold, read_ranks, spell_quantizers
from onnxcam.graph.types import (
    FLOATS,
    UNKNOWN,
    Sizes,
    Types,
    ValueType,
    check_axes,
    completed,
    declared,
    inferred_types,
    is_open,
    shape_in,
)
from onnxcam.runtime import oracle

IMPURE = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
LARGEST = 2**63 - 1  # size that a value of sizes holds
MOST_ELEMENTS = 2**20  # that values of unknown size may come to while the graph is read
MOST_INFERRED, FEWEST_ROUNDS = 400_000, 10  # nodes, in all rounds of inference together; rounds in any case
MULTIPLYING = frozenset([
    "Cast", "Identity", "Abs", "Neg", "Sign", "Not", "Clip", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose",
    "Slice", "Split", "Unique", "Compress", "TopK", "CumSum", "Gather", "GatherElements", "GatherND", "ScatterElements",
    "ScatterND", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "ArgMax", "ArgMin", "Add", "Sub", "Mul", "Div",
    "Mod", "Pow", "Max", "Min", "Sum", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor",
    "Where",
])  # make at most as many elements as the sizes of their inputs multiply to  # fmt: skip
HANDED = frozenset([
    TensorProto.UNDEFINED, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL,
    TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.STRING,
])  # that NumPy has; ONNX Runtime hands others over as bytes, or not at all  # fmt: skip
Constants = dict[str, npt.NDArray[Any]]


class Inference:
    """What follows from a normalized model alone.

    Attributes:
        model, proto: the model.
        nodes: its own, with what they read.
        made: the node that makes each value.
        computed: constants that follow from the model, as far as they are known by now.
        told: types that onnx's inference is told, from elsewhere and by ONNX Runtime.
    """

    def __init__(
        self,
        model: Model,
        proto: onnx.ModelProto,
        computed: Constants | None = None,
        told: dict[str, ValueType] | None = None,
        known: Types | None = None,
    ) -> None:
        """Nothing is inferred yet.

        Args:
            computed: constants that are known to follow from the model already.
            told: types that are known from elsewhere, see `told_by_batches`.
            known: types that are inferred already; what is open among them is inferred anew.
        """
        self.model, self.proto = model, proto
        self.nodes = wired(proto.graph.node)
        self.made = {name: node for node, _ in self.nodes for name in node.output if name}
        small = [
            tensor for tensor in proto.graph.initializer if math.prod(tensor.dims) <= SMALL and has_numpy_type(tensor)
        ]
        self._given: Constants = {tensor.name: model.array(tensor) for tensor in small}
        self._weights = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._known = declared(proto.graph.input) | dict(known or {})
        self._known |= {name: ValueType(one.data_type, tuple(one.dims)) for name, one in self._weights.items()}
        self._open: Sequence[int] = range(len(self.nodes))
        self.computed: Constants = {}
        self._learn(computed or {})
        self.told = dict(told or {})
        self._misled = set[str]()  # of which onnx tells what is not so
        self._rounds = self._inferred_nodes = 0
        self._sizing = Sizing(proto, self._constant)

    @cached_property
    def types(self) -> dict[str, ValueType]:
        """Type of every value: onnx's inference helped by constants, and by ONNX Runtime's where it stops, in turn."""
        found = self.settled
        while told := self._asked(found):
            self.told |= told
            found = self._settle()
        return found

    @cached_property
    def settled(self) -> dict[str, ValueType]:
        """Types before ONNX Runtime is asked for any."""
        return self._settle()

    def told_more(self, told: Types) -> Inference:
        """One that is told these types too; itself where there are none."""
        if not told:
            return self
        return Inference(self.model, self.proto, self.computed, {**self.told, **told}, self.types)

    @property
    def misjudged(self) -> dict[int, tuple[Question, Sizes]]:
        """Nodes of which onnx infers other sizes than ONNX Runtime computes, by their place: see `Sizing`."""
        _ = self.types
        return self._sizing.misjudged

    @cached_property
    def settled_constants(self) -> Constants:
        """Those of the constants that are known before ONNX Runtime is asked for types: the cheaper and the surer."""
        self._compute(self.settled, range(len(self.nodes)))
        return self._given | self.computed

    @cached_property
    def constants(self) -> Constants:
        """Every small value that does not depend on the inputs."""
        self._compute(self.types, range(len(self.nodes)))
        return self._given | self.computed

    def _settle(self) -> dict[str, ValueType]:
        """Types with what constants tell, and these with what types do."""
        while True:
            self._infer()
            opened = (shape_in(self._known, name) for i in self._open for name in self.nodes[i].node.output if name)
            if not any(map(is_open, opened)) or not self._compute(self._known, self._open):
                return dict(self._known)

    def _infer(self) -> None:
        """Types as onnx infers them, sizes as ONNX Runtime computes them, states as loops leave them.

        What is open is inferred anew, with what may tell it; a type that is settled stays.
        """
        places = open_nodes([self.nodes[i] for i in self._open], self._known, self.computed)
        self._open = [self._open[i] for i in places]
        told, ranks = self.told, dict[str, ValueType]()
        while self._rounds < FEWEST_ROUNDS or self._inferred_nodes < MOST_INFERRED:
            self._rounds += 1
            self._inferred_nodes += len(self._open)
            proto = self._part()
            spell_quantizers(proto.graph)
            spell_lists_of_sizes(proto.graph, self._known, self.made.get, self._constant)
            declare(proto.graph, told)
            if self._misled:
                leave_untold(proto, self._misled)
            fresh = {name: one for name, one in inferred_types(proto).items() if is_open(shape_in(self._known, name))}
            found = self._known | fresh
            if untrue := false_sizes(proto.graph.node, found):
                self._misled |= untrue.keys()
                self.told |= untrue
                told = told | untrue
                continue
            corrected = self._sizing.correct(found)
            if corrected:
                self._weights = {tensor.name: tensor for tensor in self._sizing.proto.graph.initializer}
            ranks |= read_ranks(proto, found)
            states = self.told | ranks
            states |= {} if corrected else final_states(proto, found) | fused_outputs(proto, found)
            if not corrected and states == told:
                self._known = found
                return
            told = states
        raise ModelError(
            f"the shapes of {self.model.name} are not settled after {self._rounds} rounds of inference: "
            "simplify the model, or export it with fixed sizes"
        )

    def _part(self) -> onnx.ModelProto:
        """The open nodes as inference is to read them, and what is known of what they read."""
        graph = self._sizing.proto.graph
        nodes = [Wired(graph.node[i], self.nodes[i].reads) for i in self._open]
        part = part_of(self._sizing.proto, nodes, self._known, self.weight)
        made = {name for node in part.graph.node for name in node.output}
        part.graph.output.extend(value for value in graph.output if value.name in made)
        part.graph.value_info.extend(value for value in graph.value_info if value.name in made)
        return part

    def _asked(self, found: Types) -> dict[str, ValueType]:
        """What ONNX Runtime tells beyond types that lack a rank, or a size of which nothing is known at all.

        Nothing behind a node that it may give another size than it computes: that waits until the size is known.
        """
        shapes = {name: shape_in(found, name) for name in self.made}
        if not any(shape is None or None in shape for shape in shapes.values()):
            return {}
        check_axes(self.proto.graph.node, found)
        seen = oracle.value_types(*self._runnable(found, sorted(name for name in shapes if is_open(shapes[name]))))
        told = {name: completed(found.get(name, UNKNOWN), ValueType(*one)) for name, one in seen.items()}
        told = {name: one for name, one in told.items() if one not in (found.get(name), self.told.get(name))}
        unsure = set(self._misled)  # ONNX Runtime infers the same
        for i, (node, read) in enumerate(self.nodes):
            if (self._sizing.doubts(i) and node.output[0] in told) or not unsure.isdisjoint(read):
                unsure.update(node.output)
        return {name: one for name, one in told.items() if one.elem_type and name not in unsure}

    def _runnable(self, known: Types, outputs: Iterable[str]) -> tuple[bytes, str | None]:
        """This graph with other outputs and what is known by now, for the oracle: bytes, the folder of its weights."""
        probe = with_constants(self._sizing.proto, self.computed)
        del probe.graph.output[:]
        probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        made = [name for node in probe.graph.node for name in node.output if shape_in(known, name) is not None]
        declare(probe.graph, {name: without_made_up(known[name]) for name in made if known[name].elem_type})
        return self.model.portable(probe), str(self.model.folder) if self.model.folder else None

    def _constant(self, name: str) -> npt.NDArray[Any] | None:
        """A small value that is known by now."""
        return self._given.get(name, self.computed.get(name))

    def _measuring(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value; of sizes cast to 32 bits, as tf2onnx does, the one that they come from."""
        node = self.made.get(name)
        narrowed = node is not None and node.op_type == "Cast" and attributes(node).get("to") == TensorProto.INT32
        return self.made.get(node.input[0]) if node is not None and narrowed else node

    def _compute(self, types: Types, places: Iterable[int]) -> bool:
        """Add the constants that some nodes make, as these types tell; whether there were any new ones."""
        before = len(self.computed)
        known = self._given | self.computed
        limits, nodes = {name: value.size for name, value in known.items()}, list[onnx.NodeProto]()
        for node, read in map(self.nodes.__getitem__, places):
            if not is_pure(node) or all(name in known or not name for name in node.output):
                continue
            sizes = measured(node, partial(shape_in, types), self._measuring, self._constant)
            if sizes is not None and all(isinstance(dim, int) and dim <= LARGEST for dim in sizes.flat):
                narrow = node.output[0] in types and types[node.output[0]].elem_type == TensorProto.INT32
                self._learn({node.output[0]: sizes.astype(np.int32 if narrow else np.int64)})
                limits[node.output[0]] = sizes.size
            elif node.input and limits.keys() >= set(read):
                found = {name: most_elements(node, types.get(name), limits, known) for name in node.output if name}
                if all(limit is not None for limit in found.values()):
                    nodes.append(node)
                    limits |= {name: limit for name, limit in found.items() if limit is not None}
        if nodes:
            self._learn(self._evaluated(nodes))
        return len(self.computed) > before

    def _learn(self, constants: Mapping[str, npt.NDArray[Any]]) -> None:
        """Know values, and so their types."""
        self.computed |= constants
        self._known |= {name: type_of(value) for name, value in constants.items()}

    def weight(self, name: str) -> onnx.TensorProto | None:
        """A value as a model holds it; None where it is not constant, as far as is known."""
        computed = self.computed.get(name)
        return self._weights.get(name) if computed is None else numpy_helper.from_array(computed, name)

    def _evaluated(self, nodes: list[onnx.NodeProto]) -> Constants:
        """What nodes make of constants, worked out by ONNX Runtime."""
        wanted = [name for node in nodes for name in node.output if name]
        known = self._given | self.computed
        read = sorted({name for node in nodes for name in reads(node)} - set(wanted))
        graph = helper.make_graph(
            nodes, "constants", [], [onnx.ValueInfoProto(name=name) for name in wanted],
            [numpy_helper.from_array(known[name], name) for name in read],
        )  # fmt: skip
        proto = helper.make_model(graph, ir_version=self.proto.ir_version, opset_imports=list(self.proto.opset_import))
        values = oracle.evaluate(serialize(proto, self.model.name), self.model.name)
        return {name: value for name, value in zip(wanted, values, strict=True) if isinstance(value, np.ndarray)}


def declare(graph: onnx.GraphProto, types: Types) -> None:
    """Tell inference what it would leave open, in place."""
    outputs = {port.name: port for port in graph.output}
    for name, found in types.items():
        port = outputs[name] if name in outputs else graph.value_info.add()
        port.CopyFrom(helper.make_tensor_value_info(name, found.elem_type, found.shape))


def type_of(value: npt.NDArray[Any]) -> ValueType:
    """The type of a constant."""
    return ValueType(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def is_pure(node: onnx.NodeProto) -> bool:
    """Whether a node is known to give the same for the same inputs, and to end: it draws nothing, and runs no body."""
    may_drop = node.op_type == "Dropout" and bool(optional(node, 2))
    return node.op_type not in IMPURE and not may_drop and not any(True for _ in subgraphs(node))


def most_elements(
    node: onnx.NodeProto, made: ValueType | None, limits: Mapping[str, int], known: Mapping[str, npt.NDArray[Any]]
) -> int | None:
    """How many elements a node makes of constants at most; None where that is too much to compute, or not known, or
    NumPy has no such numbers.

    Args:
        made: the type of one of its outputs.
        limits: the elements of its inputs, or the most that they may have.
        known: those of the inputs that are computed.
    """
    if made and made.elem_type not in HANDED:
        return None
    shape = made.shape if made else None
    sizes = [dim for dim in shape or () if isinstance(dim, int)]
    if shape is not None and len(sizes) == len(shape):
        return count if (count := math.prod(sizes)) <= SMALL else None
    if (made and made.elem_type in FLOATS) or math.prod(sizes) > SMALL or node.domain:
        return None
    read = [limits[name] for name in reads(node)]
    if node.op_type == "Concat":
        most = sum(read)
    elif node.op_type in MULTIPLYING:
        most = math.prod(max(limit, 1) for limit in read)
    elif node.op_type == "NonZero" and node.input[0] in known:
        most = read[0] * known[node.input[0]].ndim
    else:  # it may be of any size: wait until that is known
        return None
    return most if most <= MOST_ELEMENTS else None


def with_constants(proto: onnx.ModelProto, constants: dict[str, npt.NDArray[Any]]) -> onnx.ModelProto:
    """A copy in which computed constants are initializers."""
    kept = [node for node in proto.graph.node if not all(name in constants or not name for name in node.output)]
    made = {name for node in kept for name in node.output}
    return with_nodes(proto, kept, (numpy_helper.from_array(v, n) for n, v in constants.items() if n not in made))


def has_numpy_type(tensor: onnx.TensorProto) -> bool:
    """Whether NumPy has the element type."""
    return tensor.data_type not in (TensorProto.STRING, TensorProto.UNDEFINED)
