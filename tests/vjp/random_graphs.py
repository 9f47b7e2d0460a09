"""Random small graphs of supported operators, for tests that compose rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.vjp.case import Array, ir_version
from tests.vjp.harness import declared

UNARY = [
    "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Elu", "Selu", "Celu", "HardSwish", "HardSigmoid", "Abs", "Neg",
    "Sin", "Cos", "Atan", "Identity", "ThresholdedRelu",
]  # fmt: skip
REDUCTIONS = [
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp",
]  # fmt: skip
OPSETS = (16, 17, 18, 20, 22, 24)


@dataclass
class Sketch:
    """A graph being drawn: `shapes` are those of the one size it will run at."""

    random: Random
    opset: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def pick(self, fits: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> str | None:
        """A value with a fitting shape, more likely a late one."""
        fitting = [name for name, shape in self.shapes.items() if fits(shape)]
        return max(self.random.choice(fitting) for _ in range(2)) if fitting else None

    def weight(self, array: Array) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(
            numpy_helper.from_array(array.astype(np.float32) if array.dtype == np.float64 else array, name)
        )
        return name

    def normal(self, *shape: int) -> str:
        rng = np.random.default_rng(self.random.getrandbits(32))
        return self.weight(rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:]))))

    def ints(self, *values: int) -> str:
        return self.weight(np.array(values, np.int64))

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Append a node; its last output."""
        names = [f"v{len(self.nodes):02d}{letter}" for letter in "abc"[:outputs]]
        self.nodes.append(helper.make_node(op_type, inputs, names, **attributes))
        inferred = onnx.shape_inference.infer_shapes(self.model(symbols={}), data_prop=True).graph
        for value in (*inferred.value_info, *inferred.output):
            if value.name in names and value.type.tensor_type.elem_type == TensorProto.FLOAT:
                self.shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        return names[-1]

    def model(self, symbols: dict[str, tuple[str | int, ...]]) -> onnx.ModelProto:
        """The graph with its last value as output; inputs declared as in `symbols`, or as they are."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, symbols.get(name, shape))
            for name, shape in self.shapes.items()
            if name[0] in "xz"
        ]
        output = onnx.ValueInfoProto(name=self.nodes[-1].output[-1])
        graph = helper.make_graph(self.nodes, "random", inputs, [output], self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        return declared(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version(self.opset)))


# -- steps: each appends a node or two, or gives up -----------------------------------------------


def unary(s: Sketch) -> None:
    s.op(s.random.choice(UNARY), s.pick() or "x")


def clip(s: Sketch) -> None:
    s.op("Clip", s.pick() or "x", s.weight(np.float32(-0.6)), s.weight(np.float32(0.7)))


def affine(s: Sketch) -> None:
    name = s.pick() or "x"
    shape = [size if s.random.random() < 0.5 else 1 for size in s.shapes[name]][
        s.random.randint(0, len(s.shapes[name])) :
    ]
    pair = [name, s.normal(*shape)]
    s.random.shuffle(pair)
    s.op(s.random.choice(["Mul", "Add", "Sub", "Max", "Min"]), *pair)


def binary(s: Sketch) -> None:
    a = s.pick() or "x"
    b = s.pick(lambda shape: broadcastable(shape, s.shapes[a]))
    s.op(s.random.choice(["Add", "Sub", "Mul", "Max", "Min"]), a, b or a)


def broadcastable(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(i == j or 1 in (i, j) for i, j in zip(a[::-1], b[::-1], strict=False))


def division(s: Sketch) -> None:
    a = s.pick() or "x"
    b = s.pick(lambda shape: broadcastable(shape, s.shapes[a])) or a
    s.op("Div", a, s.op("Exp", s.op("Tanh", b)))


def choice(s: Sketch) -> None:
    name = s.pick() or "x"
    s.op("Where", s.op("Greater", name, s.weight(np.float32(0.2))), name, s.op("Sin", name))


def reduction(s: Sketch) -> None:
    op = s.random.choice(REDUCTIONS)
    name = s.pick(lambda shape: len(shape) > 0)
    if name:
        rank = len(s.shapes[name])
        axes = sorted(s.random.sample(range(-rank, 0), s.random.randint(1, rank)))
        keep = s.random.randint(0, 1)
        if op == "ReduceSum" or s.opset >= 18:
            s.op(op, name, s.ints(*axes), keepdims=keep)
        else:
            s.op(op, name, axes=axes, keepdims=keep)


def softmax(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) > 0)
    if name:
        s.op(s.random.choice(["Softmax", "LogSoftmax"]), name, axis=s.random.randrange(-len(s.shapes[name]), 0))


def transpose(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) > 0) or "x"
    s.op("Transpose", name, perm=s.random.sample(range(len(s.shapes[name])), len(s.shapes[name])))


def reshape(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) > 1)
    if name:
        axis = s.random.randrange(1, len(s.shapes[name]))
        if s.random.random() < 0.5:
            s.op("Flatten", name, axis=axis)
        else:
            s.op("Reshape", name, s.ints(*[0] * axis, -1))


def squeeze(s: Sketch) -> None:
    name = s.op("Unsqueeze", s.pick() or "x", s.ints(s.random.choice([0, -1])))
    if s.random.random() < 0.5:
        s.op("Squeeze", name, s.ints(s.shapes[name].index(1)))


def piece(s: Sketch) -> None:
    name = s.pick(lambda shape: max(shape, default=0) > 2)
    if name:
        axis = s.random.choice([i for i, size in enumerate(s.shapes[name]) if size > 2])
        size = s.shapes[name][axis]
        match s.random.randrange(4):
            case 0:
                s.op(
                    "Slice",
                    name,
                    s.ints(s.random.randrange(2)),
                    s.ints(size - 1),
                    s.ints(axis),
                    s.ints(s.random.choice([1, 2])),
                )
            case 1:
                s.op("Slice", name, s.ints(-1), s.ints(-size - 1), s.ints(axis), s.ints(-1))
            case 2:
                s.op("Gather", name, s.ints(*(s.random.randrange(-size, size) for _ in range(3))), axis=axis)
            case 3:
                s.op("Split", name, s.ints(1, size - 1), axis=axis, outputs=2)


def join(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) > 0)
    if name:
        match s.random.randrange(3):
            case 0:
                s.op("Concat", name, s.op("Tanh", name), name, axis=s.random.randrange(-len(s.shapes[name]), 0))
            case 1:
                s.op("Tile", name, s.ints(*(s.random.randint(1, 2) for _ in s.shapes[name])))
            case 2:
                pads = [s.random.randint(0, 1) for _ in range(2 * len(s.shapes[name]))]
                s.op("Pad", name, s.ints(*pads), mode=s.random.choice(["constant", "edge"]))


def image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and min(shape[2:]) >= 3


def convolution(s: Sketch) -> None:
    name = s.pick(image)
    if name:
        channels = s.shapes[name][1]
        group = s.random.choice([1, channels])
        out = group * s.random.randint(1, 2)
        kernel = [s.random.randint(1, 3), s.random.randint(1, 3)]
        strides = [s.random.randint(1, 2), s.random.randint(1, 2)]
        pads = [s.random.randint(0, 1) for _ in range(4)]
        weight = s.normal(out, channels // group, *kernel)
        s.op("Conv", name, weight, s.normal(out), group=group, strides=strides, pads=pads)


def enlarge(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) == 4 and max(shape[2:]) <= 8)
    if name:
        match s.random.randrange(3):
            case 0:
                s.op("ConvTranspose", name, s.normal(s.shapes[name][1], 2, 2, 3), strides=[2, 2], pads=[0, 1, 0, 1])
            case 1:
                scales = np.array([1, 1, 2, s.random.choice([0.6, 1, 1.1, 1.5, 2])], np.float32)
                if s.random.random() < 0.5:
                    scales = scales[[0, 1, 3, 2]]
                mode = s.random.choice(["half_pixel", "asymmetric"])
                weight = s.weight(scales)
                s.op("Resize", name, "", weight, mode="linear", coordinate_transformation_mode=mode)
            case 2 if s.shapes[name][1] % 4 == 0:
                s.op("DepthToSpace", name, blocksize=2, mode=s.random.choice(["DCR", "CRD"]))


def pool(s: Sketch) -> None:
    name = s.pick(image)
    if name:
        match s.random.randrange(4):
            case 0:
                kernel = [s.random.randint(2, 3)] * 2
                s.op("MaxPool", name, kernel_shape=kernel, strides=[s.random.randint(1, 2)] * 2, pads=[1, 0, 0, 1])
            case 1:
                s.op("AveragePool", name, kernel_shape=[2, 3], strides=[s.random.randint(1, 2)] * 2)
            case 2:
                s.op("GlobalAveragePool", name)
            case 3:
                s.op("GlobalMaxPool", name)


def normalization(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) > 2 and min(shape[1:]) > 1)
    if name:
        channels, last = s.shapes[name][1], s.shapes[name][-1]
        match s.random.randrange(3):
            case 0:
                variance = s.weight(np.linspace(0.5, 2, channels))
                s.op("BatchNormalization", name, s.normal(channels), s.normal(channels), s.normal(channels), variance)
            case 1:
                s.op("InstanceNormalization", name, s.normal(channels), s.normal(channels), epsilon=0.1)
            case 2 if s.opset >= 17:
                s.op("LayerNormalization", name, s.normal(last), s.normal(last), axis=-1, epsilon=0.1)


def normalization_of_a_kind(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) > 2 and min(shape) > 1)
    if name:
        channels, last, axis = s.shapes[name][1], s.shapes[name][-1], s.random.randrange(-len(s.shapes[name]), 0)
        match s.random.randrange(4):
            case 0:
                first = f"v{len(s.nodes):02d}a"
                weights = [s.normal(channels) for _ in range(3)]  # of their own: ONNX Runtime overwrites shared ones
                variance = s.weight(np.linspace(0.4, 1.9, channels))
                s.op("BatchNormalization", name, *weights, variance, training_mode=1, epsilon=0.1, outputs=3)
                del s.shapes[first[:-1] + "b"], s.shapes[first[:-1] + "c"]  # running statistics: refused
                s.op("Sin", first)
            case 1:
                s.op("LpNormalization", s.op("Exp", s.op("Tanh", name)), axis=axis, p=s.random.randint(1, 2))
            case 2 if s.opset >= 18:
                s.op("LpPool", name, kernel_shape=[1] * (len(s.shapes[name]) - 3) + [2])
            case 3 if s.opset >= 23:
                s.op("RMSNormalization", name, s.normal(last), axis=-1, epsilon=0.1)


def power(s: Sketch) -> None:
    base = s.op("Exp", s.op("Tanh", s.pick() or "x"))
    exponent = s.pick(lambda shape: broadcastable(shape, s.shapes[base])) or "x"
    s.op("Pow", base, s.random.choice([s.op("Tanh", exponent), s.weight(np.float32(-1.5)), s.weight(np.float32(2))]))


def slopes(s: Sketch) -> None:
    name = s.pick() or "x"
    shape = [size if s.random.random() < 0.5 else 1 for size in s.shapes[name]]
    s.op("PRelu", name, s.normal(*shape[s.random.randint(0, len(shape)) :]))


def sums(s: Sketch) -> None:
    a = s.pick() or "x"
    b = s.pick(lambda shape: broadcastable(shape, s.shapes[a])) or a
    s.op(s.random.choice(["Sum", "Max", "Min"]), a, b, s.op("Sin", a))


def scatter(s: Sketch) -> None:
    name = s.pick(lambda shape: 0 < max(shape, default=0) < 32)  # the evaluator gathers from no more
    if name:
        shape = s.shapes[name]
        axis, rng = s.random.randrange(len(shape)), np.random.default_rng(s.random.getrandbits(32))
        match s.random.randrange(3):
            case 0:
                s.op("GatherElements", name, s.weight(rng.integers(-shape[axis], shape[axis], shape)), axis=axis)
            case 1:
                mode = s.random.choice(["none", "add", "mul", *(["max", "min"] if s.opset >= 18 else [])])
                index = s.weight(rng.integers(-shape[axis], shape[axis], shape))
                s.op("ScatterElements", name, index, s.op("Cos", name), axis=axis, reduction=mode)
            case 2:
                index = s.weight(rng.integers(-shape[0], shape[0], (2, 1)))
                s.op("ScatterND", name, index, s.normal(2, *shape[1:]))


def ordered(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) > 1)
    if name:
        axis = s.random.randrange(-len(s.shapes[name]), 0)
        match s.random.randrange(3):
            case 0:
                first, count = f"v{len(s.nodes):02d}a", s.ints(s.random.randint(1, s.shapes[name][axis]))
                s.op("TopK", name, count, axis=axis, largest=s.random.randint(0, 1), outputs=2)
                s.op("Neg", first)
            case 1:
                flags = {"exclusive": s.random.randint(0, 1), "reverse": s.random.randint(0, 1)}
                s.op("CumSum", name, s.weight(np.array(axis)), **flags)
            case 2:
                s.op("Trilu", name, s.weight(np.array(s.random.randint(-1, 1))), upper=s.random.randint(0, 1))


def letters(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) == 2)
    if name:
        rows, columns = s.shapes[name]
        equations = [
            "ij->j",
            "ij->",
            "ij,ij->i",
            "ij,kj->ik",
            "ij,kj",
            *(["ii->i", "ii,ij->ij"] if rows == columns else []),
        ]
        equation = s.random.choice(equations)
        s.op("Einsum", *[name] * (equation.count(",") + 1), equation=equation)


def product(s: Sketch) -> None:
    name = s.pick(lambda shape: len(shape) > 1)
    if name:
        shape = s.shapes[name]
        match s.random.randrange(3):
            case 0:
                s.op("MatMul", name, s.normal(shape[-1], 3))
            case 1:
                swapped = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
                s.op("MatMul", name, s.op("Transpose", name, perm=swapped))
            case 2 if len(shape) == 2:
                s.op("Gemm", name, s.normal(2, shape[1]), s.normal(2), transB=1, alpha=0.5)


STEPS = (
    unary, unary, clip, affine, affine, binary, binary, division, choice, reduction, softmax, transpose, reshape,
    squeeze,
    piece, piece, join, convolution, convolution, enlarge, pool, normalization, normalization_of_a_kind, product,
    power, slopes, sums, scatter, scatter, ordered, letters,
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A model of x (and z), its output and the shapes it runs at."""

    model: onnx.ModelProto
    output: str
    shapes: dict[str, tuple[int, ...]]


def draw_graph(random: Random) -> Drawn:
    """3 to 8 steps from an image or a matrix; a random part of the inputs' dimensions is symbolic."""
    s = Sketch(random, random.choice(OPSETS))
    image_shape = (random.randint(1, 2), random.randint(1, 3), random.randint(4, 6), random.randint(4, 6))
    s.shapes["x"] = image_shape if random.random() < 0.7 else image_shape[:2] + image_shape[3:][: random.randint(0, 1)]
    if random.random() < 0.5:
        s.shapes["z"] = tuple(size if random.random() < 0.5 else 1 for size in s.shapes["x"])
    steps = random.randint(3, 8)
    while len(s.nodes) < steps:
        random.choice(STEPS)(s)
        if any(np.prod(shape) > 4000 for shape in s.shapes.values()):
            break
    inputs = {name: shape for name, shape in s.shapes.items() if name[0] in "xz"}
    symbols = {
        name: tuple(f"{name}{i}" if random.random() < 0.4 else size for i, size in enumerate(shape))
        for name, shape in inputs.items()
    }
    return Drawn(s.model(symbols if random.random() < 0.7 else {}), s.nodes[-1].output[-1], inputs)
