"""Operators that compute with integers, each beside the float graph that it stands for.

x (and z) lie on the grid of the quantizer that reads them, and no output leaves its range: there the gradient is that
of the float graph. Differences of the integers themselves would be those of a staircase.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.parser

from tests.vjp.case import Array, ir_version

RNG = np.random.default_rng(7)
STEP = 1 / 16  # of x, z and of what comes near them
KERNEL = RNG.integers(-90, 90, (4, 3, 3, 3)).astype(np.int8)
PACKED = RNG.integers(-90, 90, (4, 12)).astype(np.int8)  # queries, keys, values
MATRIX = RNG.integers(20, 230, (6, 4)).astype(np.uint8)
SLICES = np.array([0.01, 0.02, 0.015, 0.005], np.float32)
POINTS = np.array([100, 120, 128, 140], np.uint8)
WEIGHTS: dict[str, Array] = {
    "s": np.float32(STEP), "p": np.uint8(128), "coarse": np.float32(0.5), "fine": np.float32(1 / 256), "o": np.uint8(0),
    "wide": np.float32(300), "wp": np.int32(0),
    "wq": KERNEL, "ws": SLICES, "wz": np.zeros(4, np.int8), "w": KERNEL * SLICES[:, None, None, None],
    "w0": np.int8(3), "wi": KERNEL.astype(np.float32) - 3,
    "mq": MATRIX, "ms": np.float32(0.01), "mz": np.uint8(120), "m": (MATRIX - 120.0) * 0.01,
    "mss": SLICES, "mzs": POINTS, "mm": (MATRIX.astype(np.float64) - POINTS) * SLICES,
    "mi": MATRIX - 120.0, "mis": MATRIX.astype(np.float64) - POINTS, "bias": np.arange(4, dtype=np.float32),
    "tq": MATRIX.T.copy(), "mt": (MATRIX.T - 120.0) * 0.01, "cond": np.array([True, False, True, True]),
    "aq": PACKED, "as": np.float32(0.001), "aw": (PACKED - 3.0) * 0.001, "root": np.float32(0.5),
    "ab": np.linspace(-1, 1, 12).astype(np.float32),
    "bits": RNG.integers(0, 256, (4, 2, 8)).astype(np.uint8), "bs": np.linspace(0.01, 0.08, 8).astype(np.float32),
}  # fmt: skip
for _name, _size in (("lw", 4), ("lr", 2)):  # (directions, width, gates), and as LSTM has them
    _codes = RNG.integers(-90, 90, (2, _size, 8)).astype(np.int8)
    _each = np.linspace(0.002, 0.01, 16, dtype=np.float32).reshape(2, 8)
    WEIGHTS |= {
        f"{_name}q": _codes, _name: (_codes * np.float32([0.01, 0.005])[:, None, None]).transpose(0, 2, 1),
        f"{_name}s": (_codes * _each[:, None]).transpose(0, 2, 1), "lss": _each, "lzs": np.zeros((2, 8), np.int8),
        "ls": np.float32([0.01, 0.005]), "lz": np.zeros(2, np.int8), "lb": RNG.normal(size=(2, 16)).astype(np.float32),
    }  # fmt: skip
for _name, _value in WEIGHTS.items():
    WEIGHTS[_name] = np.asarray(_value, np.float32) if np.asarray(_value).dtype == np.float64 else np.asarray(_value)
WEIGHTS["unpacked"] = np.stack([WEIGHTS["bits"] % 16, WEIGHTS["bits"] // 16], -1).reshape(4, 32).astype(np.float32) - 8
WEIGHTS["unpacked"] = np.ascontiguousarray((WEIGHTS["unpacked"] * np.repeat(WEIGHTS["bs"], 16).reshape(4, 32)).T)

IMAGE, ROWS = (2, 3, 5, 4), (3, 6)


@dataclass(frozen=True)
class Integer:
    """A graph of integers from x (and z) to y, and the float graph with the same gradient.

    Attributes:
        op: its operator, with the domain where that is not ONNX's own.
        body, plain: the nodes of both, y the last value; qx and qz hold x and z quantized by s and p.
        x: its shape; z has it too where the nodes read it.
        tolerance: relative; wide where a rounded value decides the slope.
    """

    op: str
    body: str
    plain: str
    x: tuple[int, ...] = IMAGE
    tolerance: float = 1e-5
    opset: int = 17
    feeds: dict[str, Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([*self.op.encode(), len(self.body)])
        drawn = {
            name: ((2 * rng.permutation(120)[: np.prod(self.x)].reshape(self.x) - 119) * STEP).astype(np.float32)
            for name in "xz"
        }
        object.__setattr__(
            self, "feeds", {n: a for n, a in drawn.items() if n == "x" or "z" in self.plain.split("(", 1)[1]}
        )

    def __str__(self) -> str:
        return f"{self.op} {self.body.split('(')[0]}"

    @property
    def key(self) -> tuple[str, str]:
        domain, _, name = self.op.rpartition(".")
        return domain, name

    def model(self, text: str) -> onnx.ModelProto:
        """The model of either body."""
        inputs = ", ".join(f"float[{','.join(map(str, array.shape))}] {name}" for name, array in self.feeds.items())
        head = f'<ir_version: {ir_version(self.opset)}, opset_import: ["" : {self.opset}, "com.microsoft" : 1]>'
        model = onnx.parser.parse_model(f"{head} g ({inputs}) => (float[] y) {{ {text} }}")
        read = {name for node in model.graph.node for name in node.input}
        held = [onnx.numpy_helper.from_array(value, name) for name, value in WEIGHTS.items() if name in read]
        model.graph.initializer.extend(held)
        return model

    def quantized(self) -> onnx.ModelProto:
        front = "".join(f"q{name} = QuantizeLinear({name}, s, p) " for name in self.feeds)
        return self.model(front + self.body)


def ms(op: str, inputs: str, plain: str, scale: str = "coarse", point: str = "p", **options: object) -> Integer:
    """An operator of com.microsoft whose output is dequantized by `scale` and `point`."""
    attrs = options.pop("attrs", "")
    body = f"q = com.microsoft.{op}{attrs}({inputs}) y = DequantizeLinear(q, {scale}, {point})"
    return Integer(f"com.microsoft.{op}", body, plain, **options)  # type: ignore[arg-type]


def unary(op: str, plain: str, attrs: str = "", **options: object) -> Integer:
    scale, point = str(options.pop("scale", "coarse")), str(options.pop("point", "p"))
    return ms(op, f"qx, s, p, {scale}, {point}", plain, scale, point, attrs=attrs, **options)


PADDED = "<pads = [1, 1, 1, 1], strides = [2, 1]>"
WINDOW = "<kernel_shape = [2, 2], strides = [2, 1], pads = [0, 1, 0, 0]>"
LAST = "t = Transpose<perm = [0, 2, 3, 1]>({0}) "
FIRST = "y = Transpose<perm = [0, 3, 1, 2]>({0})"

INTEGERS = [
    Integer("QLinearConv",
            f"q = QLinearConv{PADDED}(qx, s, p, wq, ws, wz, coarse, p) y = DequantizeLinear(q, coarse, p)",
            f"y = Conv{PADDED}(x, w)"),
    ms("QLinearConv", "qx, s, p, wq, ws, wz, coarse, p", f"y = Conv{PADDED}(x, w)", attrs=PADDED),
    Integer("com.microsoft.QLinearConv", LAST.format("qx")
            + f"c = com.microsoft.QLinearConv{PADDED[:-1]}, channels_last = 1>(t, s, p, wq, ws, wz, coarse, p) "
            "d = DequantizeLinear(c, coarse, p) " + FIRST.format("d"), f"y = Conv{PADDED}(x, w)"),
    Integer("QLinearMatMul", "q = QLinearMatMul(qx, s, p, mq, ms, mz, coarse, p) y = DequantizeLinear(q, coarse, p)",
            "y = MatMul(x, m)", ROWS),
    Integer("QLinearMatMul", "q = QLinearMatMul(qx, s, p, mq, mss, mzs, coarse, p) y = DequantizeLinear(q, coarse, p)",
            "y = MatMul(x, mm)", ROWS),
    Integer("QLinearMatMul", "t = Transpose(qz) q = QLinearMatMul(qx, s, p, t, s, p, wide, p) "
            "y = DequantizeLinear(q, wide, p)", "t = Transpose(z) y = MatMul(x, t)", ROWS),
    ms("QGemm", "qx, s, p, mq, ms, mz, , coarse, p", "y = Gemm<alpha = 0.5>(x, m)", attrs="<alpha = 0.5>", x=ROWS),
    ms("QGemm", "qx, s, p, tq, ms, mz, , coarse, p", "y = Gemm<transB = 1>(x, mt)", attrs="<transB = 1>", x=ROWS),
    Integer("com.microsoft.QGemm", "y = com.microsoft.QGemm(qx, s, p, mq, ms, mz)", "y = Gemm(x, m)", ROWS),
    Integer("ConvInteger", f"i = ConvInteger{PADDED}(qx, wq, p, w0) c = Cast<to = 1>(i) y = Mul(c, s)",
            f"y = Conv{PADDED}(x, wi)"),
    Integer("MatMulInteger", "i = MatMulInteger(qx, mq, p, mz) c = Cast<to = 1>(i) y = Mul(c, s)", "y = MatMul(x, mi)",
            ROWS),
    Integer("MatMulInteger", "i = MatMulInteger(qx, mq, p, mzs) c = Cast<to = 1>(i) y = Mul(c, s)",
            "y = MatMul(x, mis)", ROWS),
    Integer("DynamicQuantizeLinear", "a, b, c = DynamicQuantizeLinear(x) y = DequantizeLinear(a, b, c)",
            "y = Identity(x)", ROWS),
    Integer("DynamicQuantizeLinear", "a, r, c = DynamicQuantizeLinear(x) y = Identity(r)",
            "h = ReduceMax<keepdims = 0>(x) a = Relu(h) l = ReduceMin<keepdims = 0>(x) m = Neg(l) b = Relu(m) "
            "r = Add(a, b) n = Constant<value_float = 255.0>() t = CastLike(n, r) y = Div(r, t)", ROWS),
    Integer("com.microsoft.MatMulIntegerToFloat",
            "y = com.microsoft.MatMulIntegerToFloat(qx, mq, s, mss, p, mzs, bias)", "y = MatMul(x, mm)", ROWS),
    Integer("com.microsoft.DynamicQuantizeMatMul", "y = com.microsoft.DynamicQuantizeMatMul(x, mq, mss, mzs, bias)",
            "y = MatMul(x, mm)", ROWS),
    *(
        Integer("com.microsoft.DynamicQuantizeLSTM",
                "y, h, c = com.microsoft.DynamicQuantizeLSTM<hidden_size = 2, direction = \"bidirectional\">"
                f"(x, lwq, lrq, lb, , , , , {each}, {each})",
                f"y, h, c = LSTM<hidden_size = 2, direction = \"bidirectional\">(x, lw{kind}, lr{kind}, lb)",
                (3, 2, 4), tolerance=3e-2)
        for kind, each in (("", "ls, lz"), ("s", "lss, lzs"))
    ),
    Integer("com.microsoft.MatMulNBits", "y = com.microsoft.MatMulNBits<K = 32, N = 4, bits = 4, block_size = 16>"
            "(x, bits, bs)", "y = MatMul(x, unpacked)", (3, 32)),
    Integer("com.microsoft.QAttention", "y = com.microsoft.QAttention<num_heads = 1>(qx, aq, ab, s, as, , p, w0)",
            "m = MatMul(x, aw) a = Add(m, ab) u, k, v = Split<axis = 2>(a) t = Transpose<perm = [0, 2, 1]>(k) "
            "c = MatMul(u, t) e = Mul(c, root) r = Softmax(e) y = MatMul(r, v)", (2, 3, 4), tolerance=1e-4),
    ms("QLinearAdd", "qx, s, p, qz, s, p, coarse, p", "y = Add(x, z)"),
    ms("QLinearMul", "qx, s, p, qz, s, p, coarse, p", "y = Mul(x, z)"),
    unary("QLinearSigmoid", "y = Sigmoid(x)", scale="fine", point="o", tolerance=2e-2),
    unary("QLinearLeakyRelu", "y = LeakyRelu<alpha = 0.5>(x)", "<alpha = 0.5>", scale="s"),
    unary("QLinearSoftmax", "y = Softmax<axis = 1>(x)", "<axis = 1, opset = 13>", scale="fine", point="o",
          tolerance=4e-2),
    unary("QLinearSoftmax", "f = Flatten<axis = 2>(x) u = Softmax(f) n = Shape(x) y = Reshape(u, n)",
          "<axis = 2, opset = 11>", scale="fine", point="o", tolerance=4e-2),
    ms("QLinearWhere", "cond, qx, s, p, qz, s, p, s, p", "y = Where(cond, x, z)", "s"),
    unary("QLinearGlobalAveragePool", "y = GlobalAveragePool(x)"),
    unary("QLinearAveragePool", f"y = AveragePool{WINDOW}(x)", WINDOW),
    Integer("com.microsoft.QLinearGlobalAveragePool", LAST.format("qx")
            + "c = com.microsoft.QLinearGlobalAveragePool<channels_last = 1>(t, s, p, s, p) "
            "d = DequantizeLinear(c, s, p) " + FIRST.format("d"), "y = GlobalAveragePool(x)"),
    ms("QLinearConcat", "coarse, p, qx, s, p, qz, s, p, qx, s, p", "y = Concat<axis = 1>(x, z, x)",
       attrs="<axis = 1>"),
    Integer("com.microsoft.NhwcMaxPool", LAST.format("qx") + "c = com.microsoft.NhwcMaxPool<kernel_shape = [2, 2]>(t) "
            "d = DequantizeLinear(c, s, p) " + FIRST.format("d"), "y = MaxPool<kernel_shape = [2, 2]>(x)"),
]  # fmt: skip
