"""Writing the backward graph: one call a node, names that collide with nothing, nothing written twice."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, MutableMapping, Sequence
from copy import copy
from itertools import count
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.graph import Graph, Shape, attributes, dequantized, quantizer, reads, scaling
from onnxcam.vjp.comparing import integer_bound

Array = npt.NDArray[Any]
PREFIX = "onnxcam/"
LARGEST_EYE = 2**12  # rows of an identity matrix that is written down
MOST_IMPLIED = 50  # tests that are looked at for one that another implies


class Emitter:
    """Appends nodes to a graph that it never changes.

    Every operator written is pure, so the same call twice gives the same value: rules need not share by hand.

    Attributes:
        graph: the primal graph.
        uncut: quantized integers whose clipping is ignored: those a score is read from.
        nodes, initializers: what was written; much of it may be read by nobody (see `needed`).
        stopped: (cotangent, primal value): the cotangent is 0 wherever the value is not positive.
    """

    def __init__(self, graph: Graph, uncut: Iterable[str] = ()) -> None:
        self.uncut = set(uncut)
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.stopped = set[tuple[str, str]]()
        self._written: MutableMapping[Any, tuple[str, ...]] = {}
        self._made: MutableMapping[str, onnx.NodeProto] = {}
        self._constants: MutableMapping[str, Array] = {}
        self._taken, self._count = graph.names, count(1)

    # -- other places to write, their names apart from all others ------------------------------------

    def reading(self, graph: Graph) -> Emitter:
        """Writes to the same place, for another primal graph."""
        other = copy(self)
        other.graph = graph
        return other

    def apart(self) -> Emitter:
        """Writes to a place of its own, which knows nothing of what was written here."""
        other = copy(self)
        other.nodes, other.initializers = [], []
        other._written, other._made, other._constants = {}, {}, {}
        return other

    def inside(self) -> Emitter:
        """Writes into a subgraph of a node to come, which sees everything written here so far."""
        other = self.apart()
        other._written, other._made = ChainMap({}, self._written), ChainMap({}, self._made)
        other._constants = ChainMap({}, self._constants)
        return other

    def adopt(self, other: Emitter) -> None:
        """Know what was written apart, whose nodes are put here by themselves (see `body.pull_back`)."""
        self.initializers += other.initializers
        self._written.update(other._written)
        self._made.update(other._made)
        self._constants.update(other._constants)

    def needed(self, names: Iterable[str]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The nodes and initializers that some values depend on, of those that were written."""
        wanted, nodes = set(names), list[onnx.NodeProto]()
        for node in reversed(self.nodes):
            if not wanted.isdisjoint(node.output):
                wanted.update(reads(node))
                nodes.append(node)
        return nodes[::-1], [tensor for tensor in self.initializers if tensor.name in wanted]

    # -- nodes -----------------------------------------------------------------------------------

    @overload
    def op(self, op_type: str, *inputs: str, outputs: Literal[1] = 1, **attributes: Any) -> str: ...
    @overload
    def op(self, op_type: str, *inputs: str, outputs: int, **attributes: Any) -> tuple[str, ...]: ...
    def op(
        self, op_type: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> str | tuple[str, ...]:
        """Write one node; the name of its output, or names of several. Left out: attributes None, last inputs ""."""
        attributes = {key: value for key, value in attributes.items() if value is not None}
        if op_type in ("Shape", "Size"):
            inputs = tuple(self.op("Neg", name) if self.is_narrow(name) else name for name in inputs)
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        inputs, attributes = self._merged(op_type, inputs, attributes)
        if (there := self._already(op_type, inputs, attributes)) is not None:
            return there
        key = (op_type, inputs, outputs, domain, repr(sorted(attributes.items())))
        if key not in self._written:
            names = tuple(self.fresh(op_type) for _ in range(outputs))
            self.nodes.append(helper.make_node(op_type, inputs, names, name=names[0], domain=domain, **attributes))
            self._written[key] = names
            self._made.update(dict.fromkeys(names, self.nodes[-1]))
        names = self._written[key]
        return names[0] if outputs == 1 else names

    def _merged(
        self, op_type: str, inputs: tuple[str, ...], attributes: dict[str, Any]
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """A Transpose of a Transpose, a Reshape of a Reshape, a Where of a Where, as one: of what that was made of.

        And comparisons of integers, in place of those of what they stand for.
        """
        if op_type in ("Greater", "Less"):
            return self._in_integers(op_type, *inputs), attributes
        if op_type == "Where":
            inner = self.made(inputs[1])
            if inner is not None and inner.op_type == "Where" and inner.input[2] == inputs[2]:
                return (self.op("And", inner.input[0], inputs[0]), *inner.input[1:]), attributes
        first = self.made(inputs[0]) if inputs else None
        if first is None or first.op_type != op_type:
            return inputs, attributes
        if op_type == "Transpose" and "perm" in attributes and first.attribute:
            before = first.attribute[0].ints
            return (first.input[0],), {"perm": [before[axis] for axis in attributes["perm"]]}
        if op_type == "Reshape" and (sizes := self.constant(inputs[1])) is not None and sizes.all():  # 0: the input's
            return (first.input[0], inputs[1]), attributes
        return inputs, attributes

    def _in_integers(self, op_type: str, value: str, bound: str) -> tuple[str, str]:
        """What a comparison of a value with a number is made of: of a dequantized one, integers."""
        reading, number = self.maker(value), self.constant(bound)
        if reading is None or reading.op_type != "DequantizeLinear" or number is None or number.size != 1:
            return value, bound
        kind = self.graph.type(reading.input[0]).elem_type
        integer = integer_bound(op_type, reading, kind, float(number.item()), self.constant)
        return (value, bound) if integer is None else (reading.input[0], self.const(integer))

    def _already(self, op_type: str, inputs: tuple[str, ...], attributes: dict[str, Any]) -> str | None:
        """The input that a node would give out unchanged: of an And one that implies the other."""
        if (perm := attributes.get("perm")) and perm == sorted(perm):
            return inputs[0]
        if op_type == "And":
            return next((one for one, other in (inputs, inputs[::-1]) if other in self._implied(one)), None)
        return None

    def _implied(self, test: str) -> set[str]:
        """The tests that hold where one does: itself, and what it was put together from (of a long chain, the last)."""
        found, waiting = set[str](), [test]
        while waiting and len(found) < MOST_IMPLIED:
            found.add(one := waiting.pop())
            made = self.made(one)
            waiting += made.input if made is not None and made.op_type == "And" else []
        return found

    def is_narrow(self, name: str) -> bool:
        """Whether a name is a computed primal value in float16.

        On the CPU, ONNX Runtime computes float16 in float32 and leaves out the roundings between its own casts. A Cast
        or Shape of ours read off such a value would bring its rounding back and change the forward pass; Neg does not.
        """
        return self.graph.type(name).elem_type == TensorProto.FLOAT16 and name not in self.graph.fixed

    def dequantized(self, name: str) -> str:
        """A primal value as it may be read: downstream of its quantizer, where it has one.

        A reader upstream of the quantizer would take the operator there off its integer kernel.
        """
        node = quantizer(self.graph, name)
        if node is None:
            return name
        if (found := dequantized(self.graph, name)) is not None:
            return found
        if node.op_type != "QuantizeLinear":
            return self.op("DequantizeLinear", node.output[0], *filter(None, scaling(node)))
        given = attributes(node)
        axis, block = given.get("axis"), given.get("block_size")
        inputs = [node.output[0], *node.input[1:]]
        return self.op("DequantizeLinear", *inputs, domain=node.domain, axis=axis, block_size=block)

    def fresh(self, hint: str) -> str:
        """A name that neither the graph nor this emitter uses."""
        return next(name for i in self._count if (name := f"{PREFIX}{hint}_{i}") not in self._taken)

    # -- constants -------------------------------------------------------------------------------

    def const(self, array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        """An initializer."""
        value = np.asarray(array, dtype)
        key = ("const", value.dtype.str, value.shape, value.tobytes())
        if key not in self._written:
            name = self.fresh("const")
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
            self._written[key] = (name,)
            self._constants[name] = value
        return self._written[key][0]

    def ints(self, *values: int) -> str:
        """A vector of int64."""
        return self.const(np.array(values, np.int64))

    def constant(self, name: str) -> Array | None:
        """The value of a name when it is known before the graph runs."""
        return self._constants[name] if name in self._constants else self.graph.constant(name)

    def made(self, name: str) -> onnx.NodeProto | None:
        """The node that was written for a name."""
        return self._made.get(name)

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value, written here or of the primal graph."""
        return self.made(name) or self.graph.maker(name)

    # -- spellings that depend on the opset, and idioms ---------------------------------------------

    def size(self, value: str, axis: int) -> int | None:
        """The size of a primal value along an axis, where it is known."""
        shape = self.graph.shape(value)
        size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
        return size if isinstance(size, int) else None

    def shape_of(self, value: str) -> str:
        """The shape of a primal value, a constant where it is known."""
        shape = self.graph.shape(value)
        if shape is not None and all(isinstance(dim, int) for dim in shape):
            return self.const(np.array(shape, np.int64))
        return self.op("Shape", value)

    def count(self, value: str) -> str:
        """How many elements a primal value has, as a vector of one, a constant where it is known."""
        shape = self.graph.shape(value)
        known = [dim for dim in shape or () if isinstance(dim, int)]
        if shape is None or len(known) < len(shape) or (number := math.prod(known)) > np.iinfo(np.int64).max:
            return self.op("Reshape", self.op("Size", value), self.ints(1))
        return self.ints(number)

    def reshape_to(self, ct: str, value: str) -> str:
        """`ct` in the shape of the primal `value`; a constant shape with one -1 where that says it."""
        shape = self.graph.shape(value)
        if shape is None or sum(not isinstance(dim, int) for dim in shape) > 1 or 0 in shape:
            return self.op("Reshape", ct, self.op("Shape", value), allowzero=1)
        return self.op("Reshape", ct, self.const([d if isinstance(d, int) else -1 for d in shape], np.int64))

    def reduce(self, op_type: str, x: str, axes: Sequence[int] | str, *, keepdims: int = 1) -> str:
        """A reduction over constant axes, or over those in an int64 value where the operator takes them as an input."""
        if isinstance(axes, str):
            return self.op(op_type, x, axes, keepdims=keepdims)
        if op_type == "ReduceSum" or self.graph.opset >= 18:
            return self.op(op_type, x, self.ints(*axes), keepdims=keepdims)
        return self.op(op_type, x, axes=list(axes), keepdims=keepdims)

    def add(self, values: Sequence[str]) -> str:
        """The sum of values of one shape."""
        return values[0] if len(values) == 1 else self.op("Add" if len(values) == 2 else "Sum", *values)

    def cast(self, value: str, elem_type: int) -> str:
        """A value in another element type."""
        return self.op("Cast", value, to=elem_type)

    def dims(self, value: str, *parts: int | tuple[int, int] | str) -> str:
        """A shape vector of ints, of dimensions of `value` (as (axis, times)) and of int64 vectors (by name)."""
        known: list[int] = []
        pieces: list[str] = []

        def flush() -> None:
            if known:
                pieces.append(self.ints(*known))
                known.clear()

        for part in parts:
            if isinstance(part, tuple):
                axis, times = part
                size = self.size(value, axis)
                if size is not None:
                    known.append(size * times)
                    continue
                flush()
                size_now = self.op("Gather", self.op("Shape", value), self.ints(axis))
                pieces.append(size_now if times == 1 else self.op("Mul", size_now, self.ints(times)))
            elif isinstance(part, str):
                flush()
                pieces.append(part)
            else:
                known.append(part)
        flush()
        return pieces[0] if len(pieces) == 1 else self.op("Concat", *pieces, axis=0)

    def dims_of(self, axis: int, values: Sequence[str]) -> str:
        """The sizes of several primal values along one axis, as a vector."""
        sizes = [self.size(value, axis) for value in values]
        if None not in sizes:
            return self.ints(*(size or 0 for size in sizes))
        return self.op("Concat", *(self.dims(value, (axis, 1)) for value in values), axis=0)

    def arange(self, count: str) -> str:
        """0, 1, 2, ... as int64, so many as a scalar says."""
        return self.op("Range", self.const(0, np.int64), count, self.const(1, np.int64))

    def zeros_like(self, value: str, elem_type: int) -> str:
        """Zeros in the shape of a primal value."""
        zero = np.zeros((), numpy_type(elem_type))
        return self.op("Expand", self.const(zero), self.shape_of(value))

    def eye(self, value: str, axis: int, elem_type: int) -> str:
        """The identity matrix of the size of a primal value along one axis."""
        kind = numpy_type(elem_type)
        size = self.size(value, axis)
        if size is not None and size <= LARGEST_EYE:
            return self.const(np.eye(size), kind)
        now = self.dims(value, (axis, 1))
        square = self.op("Expand", self.const(0, kind), self.op("Concat", now, now, axis=0))
        return self.op("EyeLike", square, dtype=elem_type)

    def sum_to(self, ct: str, shape: Shape | None, to: str) -> str:
        """Sum a cotangent of the given shape over the axes along which the primal `to` was broadcast."""
        small = self.graph.shape(to)
        if shape is None or small is None:
            return self._summed_at_run_time(ct, to)
        extra = len(shape) - len(small)
        if extra < 0:  # as only a broken model has it
            return self._summed_at_run_time(ct, to)
        axes = list(range(extra))
        for axis, (wide, narrow) in enumerate(zip(shape[extra:], small, strict=True), extra):
            if narrow == 1 and wide != 1:
                axes.append(axis)
            elif narrow is None or (narrow != wide and not isinstance(narrow, int)):
                return self._summed_at_run_time(ct, to)
        if not axes:
            return ct
        if axes == list(range(extra)):
            return self.reduce("ReduceSum", ct, axes, keepdims=0)
        ct = self.reduce("ReduceSum", ct, axes)
        return self.reshape_to(ct, to) if extra else ct

    def _summed_at_run_time(self, ct: str, to: str) -> str:
        """The same where only the running graph knows which axes were broadcast."""
        big, small = self.op("Shape", ct), self.op("Shape", to)
        missing = self.op("Sub", self.op("Shape", big), self.op("Shape", small))  # leading axes that `to` lacks
        padded = self.op("Concat", self.op("Expand", self.ints(1), missing), small, axis=0)
        differs = self.op("Not", self.op("Equal", big, padded))
        axes = self.op("Reshape", self.op("NonZero", differs), self.ints(-1))
        return self.op("Reshape", self.op("ReduceSum", ct, axes, keepdims=1, noop_with_empty_axes=1), small)


def numpy_type(elem_type: int) -> type[np.floating[Any]]:
    """The type of a cotangent in NumPy."""
    return np.float64 if elem_type == TensorProto.DOUBLE else np.float32


def cotangent_type(elem_type: int) -> int:
    """The element type of a value's cotangent: float64 for float64, else float32."""
    return int(TensorProto.DOUBLE if elem_type == TensorProto.DOUBLE else TensorProto.FLOAT)
