"""Losses: every reduction, with and without weights and labels to ignore."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from tests.vjp.case import Arg, Array, Case, case, fed, held, index, normal, positive


def loss(x: Array, label: Array, w: Array | None, attrs: dict[str, Any]) -> Array:
    """NegativeLogLikelihoodLoss by the specification."""
    kept = label != attrs["ignore_index"] if "ignore_index" in attrs else np.ones(label.shape, bool)
    safe = np.where(kept, label, 0)
    weight = kept * (1.0 if w is None else w[safe])
    each = -weight * np.take_along_axis(x, safe[:, None], 1)[:, 0]
    match attrs.get("reduction", "mean"):
        case "none":
            return each
        case "sum":
            return np.array(each.sum())
        case _:
            return np.array(each.sum() / weight.sum())


def log_softmax(x: Array) -> Array:
    shifted: Array = x - x.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def likelihood(*args: Arg, opset: int = 17, **attrs: Any) -> Case:
    truth = lambda x, label, w=None: loss(x, label, w, attrs)  # noqa: E731
    return case("NegativeLogLikelihoodLoss", *args, truth=truth, opset=opset, **attrs)


def entropy(*args: Arg, of: int = 0, outputs: int = 1, **attrs: Any) -> Case:
    def truth(x: Array, label: Array, w: Array | None = None) -> Array:
        log = log_softmax(x)
        return log if of else loss(log, label, w, attrs)

    return case("SoftmaxCrossEntropyLoss", *args, truth=truth, of=of, outputs=outputs, **attrs)


LABELS, MAP = index([0, 3, 1]), index([[[0, 3], [1, 1]], [[2, 0], [3, 3]]])

CASES = [
    *(row(normal(3, 4), LABELS, reduction=how) for row, how in product((likelihood, entropy), ("none", "sum", "mean"))),
    *(
        row(normal(2, 4, 2, 2), fed(MAP), positive(4), reduction=how, ignore_index=ignored)
        for row, how, ignored in product((likelihood, entropy), ("none", "sum", "mean"), (3, -1))
    ),
    likelihood(normal(1, "C", 3), fed(index([[1, 2, 0]])), held(positive(3))),
    entropy(normal(5, "W"), index([0, -100, 1, 2, 3]), ignore_index=-100),
    entropy(normal(3, 4), LABELS, outputs=2),
    entropy(normal(3, 4), LABELS, outputs=2, of=1),
    entropy(normal(3, 4, 2), index([[0, 1], [3, 1], [2, 2]], np.int32), positive(4)),
]
