"""From what a user says to targets."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from onnxcam.arguments import is_whole
from onnxcam.errors import TargetError, did_you_mean
from onnxcam.targets.kinds import Array, ClassTarget, Target, check_class

Spec = int | str | Target
MOST = 1000  # targets that one "top:k" may stand for


def best(scores: Array, count: int) -> list[int]:
    """Indices of the highest scores, the highest first; ties: the lowest index first."""
    return [int(i) for i in np.argsort(-scores, kind="stable")[:count]]


def resolve(spec: Spec | None, scores: Array, labels: Sequence[str] | None) -> list[Target]:
    """Targets for one row of scores (classes,).

    Args:
        spec: None for the highest score; an index; "281"; "top:3"; a label; "label:7"; or a Target.
        scores: one row.
        labels: a name a class, or None.

    Raises:
        TargetError: no such class, or a name that several classes bear.
    """
    if isinstance(spec, ClassTarget) and spec.label is None:
        return [at(spec.which, scores, labels)]
    if isinstance(spec, Target):
        return [fitting(spec, scores)]
    if spec is None:
        return [at(int(np.argmax(scores)), scores, labels)]  # the first of equals
    if is_whole(spec):
        return [at(int(spec), scores, labels)]
    if not isinstance(spec, str):
        raise TargetError(f"a target is an index, a label, 'top:k' or a Target, not {type(spec).__name__}")
    text = spec.strip()
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return [at(int(text), scores, labels)]
    if text.startswith("top:"):
        if not re.fullmatch(r"top:\d{1,6}", text) or not 1 <= int(text[4:]) <= MOST:
            raise TargetError(f"'{text[:40]}' should be top:K with K from 1 to {MOST}")
        return [at(i, scores, labels) for i in best(scores, int(text[4:]))]
    return [at(by_label(text.removeprefix("label:"), labels), scores, labels)]


def fitting(target: Target, scores: Array) -> Target:
    """The target itself; TargetError when it is no functional of these scores."""
    cotangent = np.asarray(target.cotangent(scores))
    if cotangent.dtype.kind not in "biuf" or cotangent.shape != scores.shape or not np.isfinite(cotangent).all():
        raise TargetError(
            f"the target '{target.name}' has a cotangent of shape {cotangent.shape}: "
            f"it should hold a finite number for each of the model's {len(scores)} classes"
        )
    return target


def at(index: int, scores: Array, labels: Sequence[str] | None) -> ClassTarget:
    """The target of one class; TargetError when the model has no such class."""
    check_class(index, scores)
    return ClassTarget(index, labels[index] if labels is not None and index < len(labels) else None)


def by_label(label: str, labels: Sequence[str] | None) -> int:
    """The index of a label: spelled exactly, or differing in case alone."""
    if labels is None:
        raise TargetError(
            f"the target '{label}' is a label, but there are no labels: give --labels FILE, or the class's index"
        )
    folded = label.strip().lower()
    exactly = [i for i, known in enumerate(labels) if known == label]
    loosely = [i for i, known in enumerate(labels) if known.strip().lower() == folded]
    for found in (exactly, loosely):
        if len(found) > 1:
            raise TargetError(
                f"several classes are called '{label}' ({', '.join(map(str, found[:10]))}): give the index"
            )
        if found:
            return found[0]
    raise TargetError(f"no class is called '{label}'{did_you_mean(label, labels)}")
