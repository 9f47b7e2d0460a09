"""Values worked out by hand where differences cannot tell: kinks, ties, zeros, quantizers, rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.parser

from onnxcam.vjp import DECONVNET, GUIDED, STANDARD, RuleSet
from tests.vjp.case import Array, ir_version
from tests.vjp.harness import declared

NESTED = Sequence[Any] | float


@dataclass(frozen=True)
class Known:
    """A small graph of `x` (and `z`) to `y`, and the gradient at one point for a seed (default: ones)."""

    name: str
    body: str
    x: NESTED
    dx: NESTED
    z: NESTED | None = None
    dz: NESTED | None = None
    seed: NESTED | None = None
    weights: str = ""
    opset: int = 17
    rules: RuleSet = field(default=STANDARD, repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def feeds(self) -> dict[str, Array]:
        given = {"x": self.x} | ({} if self.z is None else {"z": self.z})
        return {name: np.array(value, np.float32) for name, value in given.items()}

    def model(self) -> onnx.ModelProto:
        inputs = ", ".join(f"float[{','.join(map(str, array.shape))}] {name}" for name, array in self.feeds.items())
        head = f'<ir_version: {ir_version(self.opset)}, opset_import: ["" : {self.opset}, "com.microsoft" : 1]>'
        weights = f"<{self.weights}>" if self.weights else ""
        return declared(onnx.parser.parse_model(f"{head}\ng ({inputs}) => (float[] y) {weights} {{ {self.body} }}"))


QUANTIZER = "float s = {0.5}, uint8 zu = {10}, int8 zi = {0}, uint8 least = {0}, float six = {0.023529412}"
RANGE = [-9, -5.1, -4.5, 0, 0.1, 122, 122.4, 999]  # in steps of 0.5 from -5 to 122.5
WITHIN = [0, 1, 1, 1, 1, 1, 1, 0]  # what is not cut off: -5.1 and 122.4 round to the ends

ZERO = "float zero = {0}, float one = {1}, float[4] zeros = {0, 0, 0, 0}"
SPELLINGS = {  # of max(x, 0)
    "Clip": "y = Clip(x, zero)",
    "Max": "y = Max(x, zero)",
    "Max of zeros": "y = Max(zeros, x)",
    "LeakyRelu": "y = LeakyRelu<alpha = 0.0>(x)",
    "ThresholdedRelu": "y = ThresholdedRelu<alpha = 0.0>(x)",
    "PRelu": "y = PRelu(x, zeros)",
    "Where": "m = Greater(x, zero) y = Where(m, x, zero)",
    "Where turned around": "m = GreaterOrEqual(zero, x) y = Where(m, zeros, x)",
    "Where not": "m = LessOrEqual(x, zero) k = Not(m) y = Where(k, x, zeros)",
    "Mul": "m = Less(zero, x) c = Cast<to = 1>(m) y = Mul(c, x)",
    "Mul turned around": "m = GreaterOrEqual(x, zero) c = Cast<to = 1>(m) y = Mul(x, c)",
}
OTHERS = {
    "y = Max(x, one)": [0, -3],
    "y = LeakyRelu<alpha = 0.5>(x)": [-1.5, -3],
    "y = PRelu(x, one)": [-3, -3],
    "y = Elu(x)": [-3 * np.exp(-1), -3],
    "y = Celu(x)": [-3 * np.exp(-1), -3],
    "m = Less(x, zero) y = Where(m, x, zero)": [-3, 0],
    "m = Greater(x, one) y = Where(m, x, zero)": [0, -3],
    "m = Less(x, zero) c = Cast<to = 1>(m) y = Mul(x, c)": [-3, 0],
    "y = ThresholdedRelu(x)": [0, -3],
    "y = Mul(x, one)": [-3, -3],
    "low = Neg(one) y = Clip(x, low, one)": [0, 0],
}

GRID = "y = GridSample<{}>(x, z)"
ROW, POINTS = [[[[1, 2, 4]]]], [[[[-1, 0], [0, 0], [1, 0]]]]

KNOWN = [
    # kinks
    Known("Relu is 0 at 0", "y = Relu(x)", [-1, -0.0, 0, 2], [0, 0, 0, 1]),
    Known("LeakyRelu is the slope at 0", "y = LeakyRelu<alpha = 0.25>(x)", [-1, 0, 2], [0.25, 0.25, 1]),
    Known("PRelu is the slope at 0", "y = PRelu(x, z)", [-1, 0, 2], [0.5, 0.5, 1], [0.5], [-1]),
    Known("Elu is alpha at 0", "y = Elu<alpha = 2.0>(x)", [0, 1], [2, 1]),
    Known("Celu is 1 at 0", "y = Celu<alpha = 2.0>(x)", [0, 1], [1, 1]),
    Known("Celu far away", "y = Celu(x)", [-200, 200], [0, 1]),
    Known("Selu at 0", "y = Selu(x)", [0, 1], [1.0507009873554805 * 1.6732632423543772, 1.0507009873554805]),
    Known(
        "Clip is 0 at both bounds",
        "y = Clip(x, low, high)",
        [-2, -1, 0, 6, 7],
        [0, 0, 1, 0, 0],
        weights="float low = {-1}, float high = {6}",
    ),
    Known("HardSigmoid is 0 at both ends", "y = HardSigmoid<alpha = 0.25>(x)", [-2, 0, 2], [0, 0.25, 0]),
    Known("HardSwish is 0 at -3 and 1 at 3", "y = HardSwish(x)", [-4, -3, 0, 3, 4], [0, 0, 0.5, 1, 1]),
    Known("Abs is 0 at 0", "y = Abs(x)", [-2, -0.0, 0, 2], [-1, 0, 0, 1]),
    Known("Shrink is 0 at its bounds", "y = Shrink<lambd = 1.0>(x)", [-2, -1, 0, 1, 2], [1, 0, 0, 0, 1]),
    Known("ThresholdedRelu is 0 at its threshold", "y = ThresholdedRelu(x)", [0.5, 1, 2], [0, 0, 1]),
    Known("Softsign at 0", "y = Softsign(x)", [0, -1], [1, 0.25]),
    Known("Sqrt at 0", "r = Sqrt(x) y = Mul(r, r)", [4], [1]),
    Known(
        "rounding is flat",
        "r = Round(x) c = Ceil(x) f = Floor(x) g = Sign(x) y = Sum(x, r, c, f, g)",
        [0.5, 1.3],
        [1, 1],
    ),
    Known("a Cast to int is flat", "i = Cast<to = 7>(x) f = Cast<to = 1>(i) y = Mul(f, x)", [2.5], [2]),
    Known(
        "a Cast to float16 is passed in float32",
        "h = Cast<to = 10>(x) y = Cast<to = 1>(h)",
        [1, 2],
        [1e-9, 1e6],
        seed=[1e-9, 1e6],
    ),
    Known("CastLike reads a type alone", "y = CastLike(x, z)", [1, 2], [1, 1], [3], [0]),
    # ties
    Known("Max shares a tie of two", "y = Max(x, z)", [1, 2, 5], [0, 0.5, 1], [3, 2, 4], [1, 0.5, 0]),
    Known("Max shares a tie of three", "y = Max(x, z, x)", [6], [2 / 3], [6], [1 / 3]),
    Known("Min shares ties", "y = Min(x, z)", [[1, 2]], [[1, 0.5]], [2], [0.5]),
    Known(
        "ReduceMax shares ties", "y = ReduceMax<axes = [1]>(x)", [[3, 1, 3], [0, 0, 0]], [[0.5, 0, 0.5], [1 / 3] * 3]
    ),
    Known("ReduceMin shares ties", "y = ReduceMin<keepdims = 0>(x)", [[3, 1], [1, 4]], [[0, 0.5], [0.5, 0]]),
    Known(
        "MaxPool takes the first",
        "y = MaxPool<kernel_shape = [2], strides = [2]>(x)",
        [[[1, 1, 0, 2, 2, 2]]],
        [[[1, 0, 0, 1, 1, 0]]],
    ),
    Known(
        "MaxPool adds where windows meet",
        "y = MaxPool<kernel_shape = [3]>(x)",
        [[[0, 0, 5, 0, 0]]],
        [[[0, 0, 6, 0, 0]]],
        seed=[[[1, 2, 3]]],
    ),
    Known(
        "MaxPool takes the first in rows",
        "y = MaxPool<kernel_shape = [2, 2]>(x)",
        [[[[0, 7], [7, 7]]]],
        [[[[0, 1], [0, 0]]]],
    ),
    Known("GlobalMaxPool takes the first", "y = GlobalMaxPool(x)", [[[[1, 4], [4, 4]]]], [[[[0, 1], [0, 0]]]]),
    Known(
        "Max in front of a quantizer",
        "m = Max(x, z) q = QuantizeLinear(m, s, zu) y = DequantizeLinear(q, s, zu)",
        [0.1, 3, 7],
        [0, 0.5, 1],
        [2, 3, 0.1],
        [1, 0.5, 0],
        weights="float s = {0.4}, uint8 zu = {3}",
    ),
    Known(
        "ReduceMin in front of a quantizer",
        "m = ReduceMin<axes = [0]>(x) q = QuantizeLinear(m, s, zu) y = DequantizeLinear(q, s, zu)",
        [4.1, 3.3, 3.4],
        [0, 1, 0],
        weights="float s = {0.4}, uint8 zu = {3}",
    ),
    Known(
        "Min of rounded values",
        "a = Cast<to = 10>(x) b = Cast<to = 10>(z) c = Sin(a) d = Sin(b) m = Min(c, d) y = Cast<to = 1>(m)",
        [0, 0.1, 0.3],
        [0.5, 1, 0],
        [0, 0.2, 0.2],
        [0.5, 0, np.cos(0.2)],
        seed=[1, 1 / np.cos(0.1), 1],
    ),
    Known("TopK takes the first", "y, i = TopK(x, k)", [3, 5, 5, 5], [0, 1, 1, 0], weights="int64[1] k = {2}"),
    Known(
        "MaxRoiPool takes the first",
        "y = MaxRoiPool<pooled_shape = [1, 1]>(x, r)",
        [[[[1, 4], [4, 4]]]],
        [[[[0, 1], [0, 0]]]],
        weights="float[1, 5] r = {0, 0, 0, 1, 1}",
    ),
    # positions on a pixel
    Known(
        "GridSample looks ahead",
        GRID.format("align_corners = 1"),
        ROW,
        [[[[1, 1, 1]]]],
        POINTS,
        [[[[1, 0], [2, 0], [-4, 0]]]],
    ),
    Known(
        "GridSample stops at the border",
        GRID.format('align_corners = 1, padding_mode = "border"'),
        ROW,
        [[[[1, 1, 1]]]],
        POINTS,
        [[[[0, 0], [2, 0], [0, 0]]]],
    ),
    Known(
        "GridSample stops at the mirror",
        GRID.format('align_corners = 1, padding_mode = "reflection"'),
        ROW,
        [[[[1, 1, 1]]]],
        POINTS,
        [[[[0, 0], [2, 0], [0, 0]]]],
    ),
    Known(
        "GridSample rounds halves to even",
        GRID.format('mode = "nearest"'),
        [[[[1, 2, 4, 8]]]],
        [[[[1, 0, 2, 0]]]],
        [[[[-0.5, 0], [0, 0], [0.5, 0], [1, 0]]]],
        [[[[0, 0], [0, 0], [0, 0], [0, 0]]]],
    ),
    # zeros
    Known("a square at 0", "y = Pow(x, p)", [0, -1, 3], [0, -2, 6], weights="float p = {2}"),
    Known("a cube at 0", "y = Pow(x, p)", [0, -1, 3], [0, 3, 27], weights="float p = {3}"),
    Known("powers 0 and 1 at 0", "y = Pow(x, p)", [0, 0], [0, 1], weights="float[2] p = {0, 1}"),
    Known("a computed power", "y = Pow(x, z)", [0, 0, -1, 1], [0, 1, -2, 5], [0, 1, 2, 5], [0, 0, 0, 0]),
    Known("ReduceL1 at 0", "y = ReduceL1(x)", [0, -2], [0, -1]),
    Known("ReduceL2 at 0", "y = ReduceL2<axes = [1]>(x)", [[0, 0], [3, -4]], [[0, 0], [0.6, -0.8]]),
    Known("LpNormalization at 0", "y = LpNormalization(x)", [[0, 0], [0, 2]], [[0, 0], [0.5, 0]]),
    Known(
        "LpPool at 0",
        "y = LpPool<kernel_shape = [2], strides = [2]>(x)",
        [[[0, 0, 3, 4]]],
        [[[0, 0, 0.6, 0.8]]],
        opset=18,
    ),
    Known("GlobalLpPool at 0", "y = GlobalLpPool<p = 3>(x)", [[[0, 0]]], [[[0, 0]]]),
    Known(
        "ReduceProd with a zero",
        "y = ReduceProd<axes = [1]>(x)",
        [[2, 3, 0], [6, 0, 0], [2, 3, 4]],
        [[0, 0, 6], [0, 0, 0], [12, 8, 6]],
    ),
    # far out
    Known("ReduceLogSumExp far out", "y = ReduceLogSumExp(x)", [200, 200], [0.5, 0.5]),
    Known("Softmax far out", "y = Softmax(x)", [110, 0], [0, 0], seed=[1, 0]),
    Known("LogSoftmax far out", "y = LogSoftmax(x)", [200, 0], [1, -1], seed=[0, -1]),
    Known("Softplus far out", "y = Softplus(x)", [-200, 0, 200], [0, 0.5, 1]),
    Known("Gelu far out", "y = Gelu(x)", [-50, 0, 50], [0, 0.5, 1], opset=20),
    Known("Mish far out", "y = Mish(x)", [-200, 0, 200], [0, 0.6, 1], opset=18),
    # quantizers
    Known(
        "uint8: what lies at the ends of a range may not be cut off",
        "i = Neg(x) n = Neg(i) q = QuantizeLinear(n, s, zu) y = DequantizeLinear(q, s, zu)",
        RANGE,
        [1] * 8,
        weights=QUANTIZER,
    ),
    Known(
        "uint8: a range that took in a Relu",
        "i = Neg(x) n = Neg(i) q = QuantizeLinear(n, s, least) y = DequantizeLinear(q, s, least)",
        [-9, 0, 0.2, 0.3, 127, 999],
        [0, 0, 0, 1, 1, 1],
        weights=QUANTIZER,
    ),
    Known(
        "uint8: a range that took in a Relu6",
        "i = Neg(x) n = Neg(i) q = QuantizeLinear(n, six, least) y = DequantizeLinear(q, six, least)",
        [-9, 0, 0.1, 5.9, 6, 999],
        [0, 0, 1, 1, 0, 0],
        weights=QUANTIZER,
    ),
    Known(
        "uint8: again what was quantized",
        "i = Neg(x) n = Neg(i) q = QuantizeLinear(n, s, zu) d = DequantizeLinear(q, s, zu) a = Abs(d) "
        "v = Identity(a) r = QuantizeLinear(v, s, least) y = DequantizeLinear(r, s, least)",
        [-9, 0.1, 0.3, 999],
        [-1, 0, 1, 1],
        weights=QUANTIZER,
    ),
    Known(
        "uint8: an input itself says what is cut off",
        "q = QuantizeLinear(x, s, zu) y = DequantizeLinear(q, s, zu)",
        RANGE,
        WITHIN,
        weights=QUANTIZER,
    ),
    Known(
        "float8: an input itself says what is cut off",
        "q = QuantizeLinear<output_dtype = 17>(x, s) y = DequantizeLinear(q, s)",
        [-1000, -896, 0.3, 800, 900],
        [0, 1, 1, 1, 0],
        weights="float s = {2.0}",
        opset=21,
    ),
    Known(
        "a Relu in front of a quantizer",
        "r = Relu(x) q = QuantizeLinear(r, s, zu) y = DequantizeLinear(q, s, zu)",
        [-1, 0.1, 0.4, 9],
        [0, 0, 1, 1],
        weights=QUANTIZER,
    ),
    Known(
        "integers that are moved",
        "i = Neg(x) n = Neg(i) q = QuantizeLinear(n, s, zu) t = Concat<axis = 0>(q, q) y = DequantizeLinear(t, s, zu)",
        RANGE,
        [3] * 8,
        weights=QUANTIZER,
        seed=[1] * 8 + [2] * 8,
    ),
    Known(
        "integers that are pooled",
        "q = QuantizeLinear(x, s, zu) m = MaxPool<kernel_shape = [2]>(q) y = DequantizeLinear(m, s, zu)",
        [[[1, 2, 2]]],
        [[[0, 2, 0]]],
        weights=QUANTIZER,
    ),
    Known(
        "a scale for every slice",
        "q = QuantizeLinear<axis = 0>(x, s, z2) y = DequantizeLinear<axis = -2>(q, t, z2)",
        [[10, 90], [10, 90]],
        [[2, 0], [2, 2]],
        weights="float[2] s = {0.5, 1}, float[2] t = {1, 2}, int8[2] z2 = {0, 0}",
    ),
    Known(
        "a scale for every block",
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear<axis = 1, block_size = 2>(q, t, o)",
        [[1, 2, 3, 4], [5, 6, 7, 8]],
        [[1, 1, 2, 2], [3, 3, 4, 4]],
        weights="float s = {1}, int8 z = {0}, float[2, 2] t = {1, 2, 3, 4}, int8[2, 2] o = {0, 0, 0, 0}",
        opset=21,
    ),
    Known(
        "the scale of all",
        "a = Neg(x) y = DequantizeLinear(q, a, o)",
        [-0.5],
        [-(1 + 2 + 3 + 4 + 10 + 12 + 14 + 16)],
        seed=[[1, 1, 1, 1], [2, 2, 2, 2]],
        weights="int8[2, 4] q = {1, 2, 3, 4, 5, 6, 7, 8}, int8[1] o = {0}",
    ),
    Known(
        "a scale for every slice, differentiated",
        "y = DequantizeLinear<axis = 0>(q, x, o)",
        [0.5, 2],
        [1 + 2 + 3 + 4 - 4, 2 * (5 + 6 + 7 + 8 - 8)],
        seed=[[1, 1, 1, 1], [2, 2, 2, 2]],
        weights="int8[2, 4] q = {1, 2, 3, 4, 5, 6, 7, 8}, int8[2] o = {1, 2}",
    ),
    Known(
        "a scale for every block, differentiated",
        "y = DequantizeLinear<axis = 1, block_size = 2>(q, x, o)",
        [[1, 2], [3, 4]],
        [[3, 7], [22, 30]],
        seed=[[1, 1, 1, 1], [2, 2, 2, 2]],
        weights="int8[2, 4] q = {1, 2, 3, 4, 5, 6, 7, 8}, int8[2, 2] o = {0, 0, 0, 0}",
        opset=21,
    ),
    Known(
        "a division by zero that a quantizer cuts off",
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) o = Neg(d) b = Neg(o) t = Div(one, b) "
        "u = QuantizeLinear(t, s, z) y = DequantizeLinear(u, s, z)",
        [0, 1],
        [0, -1],
        weights="float s = {0.5}, uint8 z = {0}, float one = {1}",
    ),
    Known(
        "com.microsoft's 16 bits",
        "q = com.microsoft.QuantizeLinear(x, s, z) y = com.microsoft.DequantizeLinear(q, s, z)",
        [1, 7, 1e9],
        [1, 1, 0],
        weights="float s = {0.5}, uint16 z = {0}",
    ),
    Known(
        "integers pooled with the channels last",
        "q = QuantizeLinear(x, s, zu) m = com.microsoft.NhwcMaxPool<kernel_shape = [1, 2]>(q) "
        "y = DequantizeLinear(m, s, zu)",
        [[[[1, 7], [2, 3], [2, 4]]]],
        [[[[0, 1], [2, 0], [0, 1]]]],
        weights=QUANTIZER,
    ),
    # ONNX Runtime's own operator in the default domain: x / root mean square, times k
    Known(
        "SimplifiedLayerNormalization",
        "y = SimplifiedLayerNormalization(x, k)",
        [[3, 4]],
        [[-0.0905097, 0.0678823]],
        weights="float[2] k = {1, 2}",
    ),
    Known(  # of which ONNX Runtime infers another shape than it gives out
        "1 / root mean square over two axes",
        "s, y = SimplifiedLayerNormalization<axis = 1>(x, k)",
        [[[1, 2], [2, 4]]],
        [[[-0.016, -0.032], [-0.032, -0.064]]],
        weights="float[2, 2] k = {1, 2, 3, 4}",
    ),
    Known(
        "LayerNormalization before its opset",
        "y = LayerNormalization(x, k)",
        [[1, 1, 7, 7]],
        [[-1 / 6, 1 / 6, -0.5, 0.5]],
        weights="float[4] k = {1, 2, 3, 6}",
        opset=16,
    ),
    # other rules for rectifiers
    Known(
        "a guided Relu inside a quantizer",
        "i = Neg(x) n = Neg(i) q = QuantizeLinear(n, s, z) y = DequantizeLinear(q, s, z)",
        [-1, -1, 2, 2],
        [0, 0, 0, 3],
        seed=[-3, 3, -3, 3],
        weights="float s = {0.5}, int8 z = {-128}",
        rules=GUIDED,
    ),
    Known(
        "a guided quantizer of what is never negative",
        "a = Abs(x) t = Reshape(a, one) q = QuantizeLinear(t, s, z) y = DequantizeLinear(q, s, z)",
        [-2, 2],
        [3, -3],
        seed=[-3, -3],
        weights="float s = {0.5}, uint8 z = {0}, int64[1] one = {-1}",
        rules=GUIDED,
    ),
    Known(
        "a guided quantizer that lets negative values through",
        "i = Neg(x) n = Neg(i) q = QuantizeLinear(n, s, z) y = DequantizeLinear(q, s, z)",
        [-2, 2],
        [-3, -3],
        seed=[-3, -3],
        weights="float s = {0.5}, uint8 z = {9}",
        rules=GUIDED,
    ),
    Known(
        "a deconvnet Relu inside a quantizer",
        "i = Neg(x) n = Neg(i) q = QuantizeLinear(n, s, z) y = DequantizeLinear(q, s, z)",
        [-1, -1, 2, 2],
        [0, 3, 0, 3],
        seed=[-3, 3, -3, 3],
        weights="float s = {0.5}, uint8 z = {0}",
        rules=DECONVNET,
    ),
    Known("guided Relu", "y = Relu(x)", [-1, -1, 2, 2, 0], [0, 0, 0, 3, 0], seed=[-3, 3, -3, 3, 3], rules=GUIDED),
    Known(
        "guided Relu6",
        "y = Clip(x, low, high)",
        [-1, 2, 2, 7],
        [0, 0, 3, 0],
        seed=[3, -3, 3, 3],
        weights="float low = {0}, float high = {6}",
        rules=GUIDED,
    ),
    Known(
        "a guided Clip that is no rectifier",
        "y = Clip(x, low, high)",
        [0, 2, 7],
        [-3, -3, 0],
        seed=[-3, -3, 3],
        weights="float low = {-1}, float high = {6}",
        rules=GUIDED,
    ),
    Known("deconvnet Relu", "y = Relu(x)", [-1, -1, 2, 2, 0], [0, 3, 0, 3, 3], seed=[-3, 3, -3, 3, 3], rules=DECONVNET),
    Known(
        "deconvnet Relu6",
        "y = Clip(x, low, high)",
        [-1, 2, 2, 7],
        [3, 0, 3, 3],
        seed=[3, -3, 3, 3],
        weights="float low = {0}, float high = {6}",
        rules=DECONVNET,
    ),
    *(
        Known(f"{rules.name}: {name}", body, [-1, -1, 2, 2], dx, seed=[-3, 3, -3, 3], weights=ZERO, rules=rules)
        for rules, dx in ((GUIDED, [0, 0, 0, 3]), (DECONVNET, [0, 3, 0, 3]))
        for name, body in SPELLINGS.items()
    ),
    *(
        Known(f"no rectifier: {body}", body, [-1, 2], dx, seed=[-3, -3], weights=ZERO, rules=rules)
        for rules in (GUIDED, DECONVNET)
        for body, dx in OTHERS.items()
    ),
    Known(
        "guided, two layers",
        "a = Mul(x, w) r = Relu(a) b = Mul(r, v) y = Relu(b)",
        [1, 1, 1],
        [6, 0, 0],
        seed=[1, 1, 1],
        weights="float[3] w = {2, -1, 2}, float[3] v = {3, 3, -3}",
        rules=GUIDED,
    ),
    Known(
        "other rules leave the rest alone",
        "y = LeakyRelu<alpha = 0.5>(x)",
        [-1, 1],
        [-0.5, -1],
        seed=[-1, -1],
        rules=GUIDED,
    ),
]
