"""Element-wise functions of one value."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from tests.vjp.case import Array, case, distinct, fed, held, index, normal, off, positive, values, within


def identity(x: Array, *_: Array) -> Array:
    return x


def erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


def gelu(x: Array) -> Array:
    return x * (1 + erf(x / math.sqrt(2))) / 2


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


CASES = [
    case("Identity", normal("N", 3)),
    case("Cast", normal("N", 3), to=TensorProto.FLOAT, truth=identity),
    case("Cast", normal("N", 3), to=TensorProto.DOUBLE, truth=identity),
    case("Cast", values([[0.5, -1.25, 3]]), to=TensorProto.FLOAT16, truth=identity),
    case("CastLike", normal("N", 3), held(values([1.0])), truth=identity),
    case("CastLike", normal("N", 3), index([1.0], np.float32), truth=identity),
    case("Dropout", normal("N", 3)),
    case("Dropout", normal("N", 3), held(values(0.4)), index(False, bool), outputs=2),
    case("Relu", off([0], "N", 3, 4)),
    case("LeakyRelu", off([0], "N", 3, 4)),
    case("LeakyRelu", off([0], "N", 3, 4), alpha=0.3),
    case("LeakyRelu", off([0], "N", 3, 4), alpha=-0.3),
    case("LeakyRelu", off([0], "N", 3, 4), alpha=0.0),
    case("PRelu", off([0], "N", 3, 4), normal(4)),
    case("PRelu", off([0], "N", 3, "H"), normal(3, 1)),
    case("PRelu", off([0], "N", 3), held(normal(1))),
    case("PRelu", off([0]), normal()),
    case("ThresholdedRelu", off([1], "N", 7), truth=lambda x: np.where(x > 1, x, 0)),
    case("ThresholdedRelu", off([0.25], "N", 7), alpha=0.25),
    case("ThresholdedRelu", off([-0.5], "N", 7), alpha=-0.5),
    case("Elu", off([0], "N", 7)),
    case("Elu", off([0], "N", 7), alpha=2.5),
    case("Elu", off([0], "N", 7), alpha=-0.5),
    case("Celu", off([0], "N", 7)),
    case("Celu", off([0], "N", 7), alpha=2.0),
    case("Selu", off([0], "N", 7)),
    case("Selu", off([0], "N", 7), alpha=1.5, gamma=2.0),
    case("Selu", off([0], "N", 7), alpha=1.5, gamma=-2.0),
    case("Clip", off([-0.5, 0.8], "N", 9), held(values(-0.5)), held(values(0.8))),
    case("Clip", off([-0.5, 0.8], "N", 9), fed(values(-0.5)), fed(values(0.8))),
    case("Clip", off([0, 6], "N", 9, spread=4), held(values(0)), held(values(6))),
    case("Clip", off([-0.5], "N", 9), held(values(-0.5))),
    case("Clip", off([0.8], "N", 9), None, held(values(0.8))),
    case("Clip", normal("N", 9)),
    case("Sigmoid", normal("N", 7)),
    case("HardSigmoid", off([-2.5, 2.5], "N", 9, spread=3)),
    case("HardSigmoid", off([-3, 3], "N", 9, spread=3), alpha=1 / 6, beta=0.5),
    case("HardSigmoid", off([-3, 3], "N", 9, spread=3), alpha=-1 / 6, beta=0.5),
    case("HardSwish", off([-3, 3], "N", 9, spread=3)),
    case("Swish", normal("N", 7), opset=24),
    case("Swish", normal("N", 7), opset=24, alpha=1.7, truth=lambda x: x / (1 + np.exp(-1.7 * x))),
    case("Mish", normal("N", 7), opset=18),
    case("Gelu", normal("N", 7), opset=20, truth=gelu),
    case("Gelu", normal("N", 7), opset=20, approximate="tanh", truth=gelu_tanh),
    case("Tanh", normal("N", 7)),
    case("Softplus", normal("N", 7)),
    case("Softsign", off([0], "N", 7)),
    case("Shrink", off([-0.5, 0.5], "N", 9)),
    case("Shrink", off([-0.3, 0.3], "N", 9), lambd=0.3, bias=0.1),
    case("Abs", off([0], "N", 7)),
    case("Neg", normal("N", 7)),
    case("Reciprocal", off([0], "N", 7)),
    case("Sqrt", positive("N", 7)),
    case("Exp", normal("N", 7)),
    case("Log", positive("N", 7)),
    case("Erf", normal("N", 7), truth=erf),
    case("Sin", normal("N", 7)),
    case("Cos", normal("N", 7)),
    case("Tan", within(-1, 1, "N", 7)),
    case("Asin", within(-0.9, 0.9, "N", 7)),
    case("Acos", within(-0.9, 0.9, "N", 7)),
    case("Atan", normal("N", 7)),
    case("Sinh", normal("N", 7)),
    case("Cosh", normal("N", 7)),
    case("Asinh", normal("N", 7)),
    case("Acosh", within(1.2, 3, "N", 7)),
    case("Atanh", within(-0.9, 0.9, "N", 7)),
    case("Softmax", normal("N", 5)),
    case("Softmax", normal("N", 3, 4), axis=1),
    case("Softmax", normal("N", 3, "H", 2), axis=-2),
    case("Softmax", normal("N", 3), axis=0),
    case("LogSoftmax", normal("N", 5)),
    case("LogSoftmax", normal("N", 3, "H", 2), axis=-3),
    case("Softmax", distinct(6)),
    case("Clip", off([-0.5, 0.7], "N", 6), values(-0.5), values(0.7)),
    case("Clip", off([-0.5], "N", 6), values(-0.5)),
    case("Clip", off([0.7], "N", 6), None, values(0.7)),
    case("Clip", off([-0.5, 0.7], "N", 6), values(0.7), values(-0.5)),
]
