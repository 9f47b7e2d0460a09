"""Operators that pick, repeat or overwrite elements by index."""

from __future__ import annotations

import numpy as np

from tests.vjp.case import Array, case, distinct, fed, held, index, ints, normal, off, values

FAR = 2**63 - 1


def arithmetic(start: Array, limit: Array, step: Array) -> Array:
    return start + step * np.arange(np.ceil((limit - start) / step))


CASES = [
    case("Slice", normal("N", 6, 5), ints(1), ints(4), ints(1)),
    case("Slice", normal("N", 6, 5), ints(0, 1, -3), ints(FAR, -1, FAR)),
    case("Slice", normal("N", "H", 5), ints(1, 0), ints(FAR, 3), ints(-2, -1)),
    case("Slice", normal("N", 6, 5), ints(0, 4), ints(6, 0), ints(1, 2), ints(2, -2)),
    case("Slice", normal("N", "L", 5), ints(-1), ints(-FAR - 1), ints(1), ints(-1)),
    case("Slice", normal("N", "L", 5), ints(1), ints(FAR), ints(1), ints(3)),
    case("Slice", normal("N", 6, 5), fed(ints(1)), fed(ints(5)), ints(1), fed(ints(2))),
    case("Slice", normal(6, 5), fed(ints(1, -3)), fed(ints(5, FAR))),
    case("Slice", normal("N", 3), index([0], np.int32), index([1], np.int32), index([0], np.int32)),
    case("Slice", normal("N", 5), ints(3), ints(2), ints(1)),
    case("Pad", normal("N", 4), ints(0, 2, 0, 1)),
    case(
        "Pad",
        normal("N", 4),
        ints(0, 2, 0, -1),
        held(values(0.5)),
        truth=lambda x, *_: np.pad(x, [(0, 0), (2, 0)], constant_values=0.5)[:, :-1],
    ),
    case("Pad", normal("N", 2, "H", 4), fed(ints(0, 0, 1, 2, 0, 0, 0, 3))),
    case("Pad", normal("N", 2, "H", 4), ints(0, 0, 1, 2, 0, 0, 2, 3), mode="reflect"),
    case("Pad", normal("N", 2, "H", 4), ints(0, 0, 1, 2, 0, 0, 2, 3), mode="edge"),
    case("Pad", normal("N", 4), fed(ints(0, 2, 0, 1)), mode="edge"),
    case("Pad", normal(3, 4), ints(2, 0, 2, 3), mode="reflect"),
    case("Pad", normal(3, 4), ints(3, 1, 2, 4), mode="wrap", opset=19),
    case("Pad", normal(3, 1), ints(5, 1, 0, 2), mode="edge"),
    case("Pad", normal(40, 2, 36), ints(3, 0, 2, 4, 0, 5), mode="reflect"),
    case("Pad", normal(36, 40), ints(3, 35, 4, 2), mode="wrap", opset=19),
    case("Pad", normal(36, 1), ints(1, 0, 2, 40), mode="edge"),
    case("Pad", normal("N", 2, 4), ints(1, 2), None, ints(-1), opset=18),
    case(
        "Pad",
        normal("N", 2, 4),
        ints(1, 0, 2, -1),
        None,
        ints(-1, 1),
        opset=18,
        truth=lambda x, *_: np.pad(x, [(0, 0), (0, 0), (1, 2)])[:, :-1],
    ),
    case("Pad", normal("N", 2, 4), fed(ints(1, 3, 2, 0)), None, ints(2, 0), opset=18),
    case("Pad", normal("N", 2, 4), ints(1, 1, 2, 0), held(values(0)), ints(2, 1), opset=18, mode="reflect"),
    case(
        "Pad",
        normal("N", 2, "H"),
        ints(1, 3, 2, 0),
        None,
        ints(-1, 1),
        opset=19,
        mode="wrap",
        truth=lambda x, *_: np.pad(x, [(0, 0), (3, 0), (1, 2)], mode="wrap"),
    ),
    case("Gather", normal("N", 4, 3), ints(2, 0, 2), axis=1),
    case("Gather", normal("N", 4, 3), index([[-1, 0], [3, 0]]), axis=-2),
    case("Gather", normal("N", 4, 3), index(-2), axis=1),
    case("Gather", normal("N", "L", 3), index(-2), axis=1),
    case("Gather", normal("N", 4, 3), ints(1), axis=2),
    case("Gather", normal("N", 4, 3), index([[1]]), axis=2),
    case("Gather", normal("N", 4), index([0, 0], np.int32)),
    case("Gather", normal("N", 4, 3), fed(index([[1, 2, 1]])), axis=1),
    case("Gather", normal("N", "H", "W"), fed(ints(3, -1)), axis=-1),
    case("Gather", normal(5), fed(index(3))),
    case("GatherElements", normal(2, 4), index([[0, 0, -1], [2, 1, 1]]), axis=1),
    case(
        "GatherElements",
        normal(3, 4),
        fed(index([[0, 2, 1, 1], [0, 0, 2, -1]])),
        truth=lambda x, i: np.take_along_axis(x, i, 0),
    ),
    case("GatherND", normal("N", 4, 3), index([[0, 1], [0, 3], [0, 1]])),
    case("GatherND", normal("N", 4, 3), index([[[0, 1, 2]], [[0, 3, 0]]])),
    case("GatherND", normal(2, 4, 3), index([[1], [3]]), batch_dims=1),
    case("GatherND", normal(2, 3, "H"), index([[[1], [0], [1]], [[3], [3], [2]]]), batch_dims=2),
    case("GatherND", normal(2, 3, "H"), fed(index([[[1, 1], [0, 1], [1, 1]], [[2, 3], [2, 2], [0, 0]]])), batch_dims=1),
    case("ScatterND", normal("N", 4, 3), index([[0, 1], [0, 3]]), normal(2, 3)),
    case("ScatterND", normal(4, 3), fed(index([[1], [1]])), normal(2, 3), reduction="add"),
    case("ScatterND", held(normal(4, 3)), index([[1, 1], [0, 2]]), normal(2)),
    case("ScatterElements", normal(3, 4), index([[0, 2], [1, 3], [3, 2]]), normal(3, 2), axis=1),
    case("ScatterElements", normal(3, "H"), index([[0, 2], [1, 1]]), normal(2, 2), axis=-2),
    case("ScatterElements", normal(3, 4), fed(index([[0, 0]])), normal(1, 2), axis=1, reduction="add"),
    # several updates for one place: ONNX Runtime keeps the last
    case("ScatterElements", normal(4), ints(1, 2, 1, -2), normal(4)),
    case("ScatterElements", normal(2, "H"), fed(index([[0, 1, 0]])), normal(1, 3), axis=1),
    case("ScatterND", normal(4, 2), fed(index([[1], [0], [1]])), normal(3, 2)),
    case("ScatterND", normal("H", 2), index([[1, 0], [-1, 1], [1, 0]]), normal(3)),
    *(
        case(op, normal(4, 3), index(i), factor, reduction=mode, opset=18, **attrs)
        for mode, factor in (("mul", off([0], 2, 3)), ("max", distinct(2, 3)), ("min", distinct(2, 3)))
        for op, i, attrs in (
            ("ScatterND", [[2], [2]], {}),
            ("ScatterElements", [[0, 2, 1], [0, -1, 2]], {"axis": 0}),
        )
    ),
    case("ScatterElements", normal("H", 3), fed(index([[0, 1]])), normal(1, 2), reduction="mul", opset=16),
    case("TopK", distinct("N", 6), ints(3), outputs=2),
    case("TopK", distinct("N", 6, 2), ints(2), axis=1, largest=0, outputs=2),
    case("TopK", distinct("N", "H"), fed(ints(2)), axis=-1, sorted=1, outputs=2),
    case("Compress", normal(4, 3), index([True, False, True], bool), axis=1),
    case("Compress", normal("H", 2), fed(index([False, True, True], bool)), axis=0),
    case("Compress", normal(2, 3), index([False, True, True, False, True], bool)),
    case("ReverseSequence", normal(4, 3), ints(4, 1, 2)),
    case("ReverseSequence", normal(3, "H"), fed(ints(4, 1, 2)), batch_axis=0, time_axis=1),
    case("GatherND", normal(6, 5), fed(index([[-1, 2], [0, -5], [-1, 2]]))),
    case("GatherND", normal("N", "H", 3), fed(index([[-1], [0], [0]]))),
    case("Slice", normal(6, 5), fed(ints(1, 0)), fed(ints(5, 3)), fed(ints(1, 0)), fed(ints(2, 1))),
    case("Slice", normal("N", "H", 5), ints(-1), ints(-FAR - 1), fed(ints(-2)), ints(-2)),
    case(
        "Pad",
        normal("N", 4),
        ints(0, 2, 0, -1),
        normal(),
        truth=lambda x, _, value: np.concatenate([np.broadcast_to(value, (len(x), 2)), x[:, :-1]], 1),
    ),
    case("Pad", normal("N", 2, 4), fed(ints(1, 2)), normal(), fed(ints(-1)), opset=18),
    case("Pad", normal("N", 4, 4), ints(1, 2), None, fed(ints(-1)), opset=18, mode="reflect"),
    case("Pad", normal("N", 4, "H"), fed(ints(1, 2)), None, fed(ints(1)), opset=18, mode="edge"),
    case("OneHot", index([[0, 2], [1, -1]]), index(3), normal(2)),
    case(
        "OneHot",
        fed(index([0, 5, 2])),
        fed(index([4])),
        normal(2),
        axis=0,
        truth=lambda i, depth, values: values[(np.arange(*depth)[:, None] == i).astype(int)],
    ),
    case("Range", values(0.4), held(values(3.1)), values(0.5), truth=arithmetic),
    case("Range", values(2.0), fed(values(-3.1)), values(-0.7), truth=arithmetic),
    case("TensorScatter", normal("N", 3, 6, 2), normal("N", 3, 2, 2), opset=24),
    case("TensorScatter", normal(3, 6, 2), normal(3, 2, 2), fed(index([1, 0, 4])), opset=24, axis=1),
    case("TensorScatter", normal(3, 6), normal(3, "K"), index([2, 1, 0]), opset=24, axis=-1),
    case("TensorScatter", normal(2, 5, 2), normal(2, 3, 2), index([4, 3]), opset=24, mode="circular"),
]
