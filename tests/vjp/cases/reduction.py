"""Reductions; axes are an attribute up to opset 17 (ReduceSum: 12) and an input from 18."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.vjp.case import Arg, Case, case, distinct, fed, ints, normal, off, positive


def reductions(op: str, draw: Callable[..., Arg]) -> list[Case]:
    """Every spelling of one reduction."""
    return [
        case(op, draw("N", 3, 4), axes=[1], until=17),
        case(op, draw("N", 3, 4), axes=[-1, -2], keepdims=0, until=17),
        case(op, draw("N", 3, "H"), axes=[0, 2], keepdims=0, until=17),
        case(op, draw("N", 3, 4), until=17),
        case(op, draw("N", 3, 4), keepdims=0, until=17),
        case(op, draw("N", 3, 4), ints(1), opset=18),
        case(op, draw("N", 3, "H", "W"), ints(-1, -2), opset=18),
        case(op, draw("N", 3, "H"), ints(2, 0), opset=18, keepdims=0),
        case(op, draw("N", 3), opset=18, keepdims=0),
        case(op, draw("N", 3), ints(), opset=18),
    ]


CASES = [
    case("ReduceSum", normal("N", 3, 4), ints(1)),
    case("ReduceSum", normal("N", 3, "H", "W"), ints(-1, -2), keepdims=0),
    case("ReduceSum", normal("N", 3)),
    case("ReduceSum", normal("N", 3), keepdims=0),
    case("ReduceSum", normal("N", 3), ints(), noop_with_empty_axes=1),
    case("ReduceMean", normal("N", 3), opset=18, noop_with_empty_axes=1),
    case("ReduceMax", normal("N", 3), opset=18, noop_with_empty_axes=1),
    case("ReduceProd", normal("N", 3), opset=18, noop_with_empty_axes=1),
    case("ReduceL1", off([0], "N", 3), opset=18, noop_with_empty_axes=1),
    case("ReduceL2", off([0], "N", 3), opset=18, noop_with_empty_axes=1),
    case("ReduceSumSquare", normal("N", 3), opset=18, noop_with_empty_axes=1),
    case("ReduceLogSum", positive("N", 3), opset=18, noop_with_empty_axes=1),
    case("ReduceLogSumExp", normal("N", 3), opset=18, noop_with_empty_axes=1),
    case("ReduceSum", normal()),
    case("ReduceMean", normal(), opset=18),
    case("ReduceMax", normal(), opset=18, truth=lambda x: x),
    case("ReduceProd", normal(), opset=18, truth=lambda x: x),
    case("ReduceL2", normal(), opset=18, truth=np.abs),
    case("ReduceLogSumExp", normal(), opset=18, truth=lambda x: x),
    *reductions("ReduceMean", normal),
    *reductions("ReduceMax", distinct),
    *reductions("ReduceMin", distinct),
    *reductions("ReduceL1", lambda *shape: off([0], *shape)),
    *reductions("ReduceL2", normal),
    *reductions("ReduceSumSquare", normal),
    *reductions("ReduceLogSum", positive),
    *reductions("ReduceLogSumExp", normal),
    *reductions("ReduceProd", lambda *shape: off([0], *shape)),
    *(
        case(op, positive("N", 3, "H"), fed(ints(-1, 0)), opset=18, keepdims=keep)
        for op in (
            "ReduceMean",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceProd",
        )
        for keep in (0, 1)
    ),
    *(case(op, distinct("N", 3, "H"), fed(ints(-1, 0)), opset=18, keepdims=0) for op in ("ReduceMax", "ReduceMin")),
    case("ReduceSum", normal("N", 3, "H"), fed(ints(1)), keepdims=0),
    case("ReduceMean", normal("N", 3), fed(ints()), opset=18, keepdims=0),
    *(
        case(op, distinct("N", 3, "H"), fed(ints(*axes)), opset=18, keepdims=keep, noop_with_empty_axes=1)
        for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceProd")
        for axes, keep in (([], 0), ([], 1), ([1], 0))
    ),
]
