"""What `run --json` says of an explanation: an object of strict JSON on a line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxcam.explainer import Explainer, Explanation
from onnxcam.targets import best

Record = dict[str, Any]


def record_of(
    e: Explanation, *, top: list[Record], preprocess: Record, boxes: bool, files: Sequence[str], seconds: float
) -> Record:
    """One explanation, its values JSON's own; `boxes` is null where nobody asked for them."""
    return {
        "image": e.image,
        "model": e.model,
        "method": e.method.name,
        "layer": e.layer,
        "placed": e.placed,
        "gradient": e.gradient,
        "provider": e.provider,
        "preprocess": preprocess,
        "score": {"name": e.score_name, "kind": e.score_kind, "guess": e.scored.guess},
        "target": target_record(e.target.name, e.target.index, e.label, e.score, e.probability),
        "top": top,
        "map": {"shape": list(e.map.shape), "min": finite(np.min(e.map)), "max": finite(np.max(e.map))},
        "boxes": [[box.x0, box.y0, box.x1, box.y1] for box in e.boxes()] if boxes else None,
        "status": e.status,
        "files": list(files),
        "seconds": round(seconds, 6),
    }


def target_record(name: str, index: int | None, label: str | None, score: float, probability: float | None) -> Record:
    """A target, or a class, and what the model says of it; no index where it is no class of a row of them."""
    return {"name": name, "index": index, "label": label, "score": finite(score), "probability": finite(probability)}


def best_classes(explainer: Explainer, e: Explanation, count: int) -> list[Record]:
    """The `count` best classes of an image, the best first; none where its scores are no row of classes.

    An embedding is none either, and a target that is measured otherwise than the scores, a likeness, tells it.
    """
    if e.scores.ndim != 1 or e.target.unit is not None:
        return []
    labels = explainer.labels(len(e.scores), strict=False)
    return [
        target_record(label or f"class {i}", i, label, float(e.scores[i]), e.probability_of(i))
        for i in best(e.scores, count)
        for label in [labels[i] if labels is not None else None]
    ]


def recipe_record(explainer: Explainer, e: Explanation) -> Record:
    """The preprocessing that was used, in the keys that `--preprocess FILE` reads, and whether it is a guess."""
    if e.item.photo is None:
        return {"name": e.preprocess, "guess": False}
    chosen = explainer.preprocess
    return {"name": chosen.recipe.name, "guess": chosen.guess, **chosen.recipe.to_json()}


def finite(value: Any) -> float | None:
    """A JSON number; null for what is none."""
    return float(value) if value is not None and math.isfinite(value) else None


def json_line(record: Record) -> str:
    """Strict JSON in printable ASCII, so that no terminal obeys a label; odd bytes of a path are lone surrogates."""
    return json.dumps(record, allow_nan=False).replace("\x7f", "\\u007f")
