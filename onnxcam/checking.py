"""`check`: does the rewritten model still say the same, is its gradient the gradient, does the map say anything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError, TargetError, UsageError
from onnxcam.explainer import Ask, Explainer, Item, Seen, TargetLayer
from onnxcam.explainer.differences import apart_from_differences
from onnxcam.explainer.grids import to_grid
from onnxcam.explainer.parity import run_original, run_rewritten
from onnxcam.explainer.rewritten import Rewritten
from onnxcam.explainer.task import Task
from onnxcam.graph import NOMINAL, at_usual_size
from onnxcam.methods import get_method, grad_cam
from onnxcam.runtime import apart, largest, moved
from onnxcam.targets import Reading, Spec, Target, best, class_target, named_output, resolve, some_target

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]
SAME_FORWARD = 1e-4  # of the largest value; for float16 as much as the last bits of its scores
SAME_GRADIENT = 0.05  # of the derivative along a direction
LARGEST_NOISE = 2**26  # elements of a made-up input
NOT_MEASURED = "not measured"
WHOLE_GRADIENT = replace(get_method("gradcam"), mean_only=False)  # its mean alone cannot be held against differences
CHANGED = 1e-3  # of a map's length: what another image or class has to change


@dataclass(frozen=True)
class CheckResult:
    """One line of the table.

    Attributes:
        name: what was checked.
        ok: whether it holds, as far as it was measured.
        measured, limit: the figure and what it must reach, in words.
        detail: on what it was measured, or what to do.
    """

    name: str
    ok: bool
    measured: str
    limit: str
    detail: str

    @property
    def skipped(self) -> bool:
        """Whether nothing could be measured, as the detail explains: then nothing failed, and nothing was shown."""
        return self.measured == NOT_MEASURED


def check(
    model: str | Path | bytes | onnx.ModelProto,
    image: Any = None,
    *,
    provider: str = "cpu",
    score: str | None = None,
    layer: str | None = None,
    target: Spec | None = None,
    preprocess: str | Path | Mapping[str, Any] | None = None,
    labels: str | Path | Sequence[str] | None = None,
    feeds: Mapping[str, Any] | None = None,
) -> list[CheckResult]:
    """Check a model's explanation of one target (default: what `Explainer` explains) on one image (default: noise).

    Forward parity of every rewritten form with the original, symbolic against numeric gradient on the head, finite
    values all along, and a Grad-CAM map that is another one for another image and for another class.

    Raises:
        OnnxCamError: the model cannot be explained at all, in one line.
    """
    explainer = Explainer(model, provider=provider, score=score, preprocess=preprocess, labels=labels, feeds=feeds)
    if not isinstance(explainer.subject, Rewritten):
        raise UsageError(f"{explainer.subject.name} is an exported file: check the model it was made from")
    item = explainer.item(noise(explainer.subject) if image is None else image)
    case = case_of(explainer, item, target, layer)
    subject, at = case.subject, case.at
    gradients = subject.layer_gradient(at, case.seen, case.ask)
    own = raw_map(case, case.seen, gradients)
    limit = max(SAME_FORWARD, last_bits(case))
    return [
        *forward(subject, case.seen.x, at, limit),
        finite("activations finite", case.layer_values, at.name),
        *gradient(case, gradients),
        by_image(case, own),
        by_class(case, own),
    ]


@dataclass(frozen=True)
class Case:
    """What is checked: a target of one image, at a layer."""

    subject: Rewritten
    at: TargetLayer
    seen: Seen
    reading: Reading
    target: Target

    @property
    def ask(self) -> Ask:
        """The target, of that image."""
        return Ask([0], [self.target])

    @property
    def layer_values(self) -> Array:
        """The activations."""
        return self.seen.values[self.at.name]


def case_of(explainer: Explainer, item: Item, spec: Spec | None, layer: str | None) -> Case:
    """The target that a user names, or what suggests itself, at the layer at which `run` would explain it."""
    output = named_output(spec)
    subject = explainer.with_score(output).for_size(item.row.shape)
    assert isinstance(subject, Rewritten)
    task = Task(explainer, subject, output, WHOLE_GRADIENT, layer, "symbolic")
    expected, seen = task.first_look(item.row[None], [spec])
    reading = task.reading(item, seen.scores[0])
    found = [some_target(reading)] if spec is None else resolve(spec, reading)
    if len(found) != 1:
        raise TargetError(f"'{spec}' stands for {len(found)} targets: name one to check")
    (target,) = found
    at = task.layer_of(target, seen, 0, expected)
    assert at is not None
    return Case(subject, at, task.seen_at(at, seen, expected), reading, target)


def last_bits(case: Case) -> float:
    """What rounding moves: two steps of the layer's type at 1, or at the largest of a row of scores, for a softmax."""
    scores, steps = case.seen.scores, 2 * float(np.finfo(case.layer_values.dtype).eps)
    return steps * max(1.0, float(np.max(np.abs(scores)))) if scores.ndim == 2 else steps


def noise(subject: Rewritten) -> Array:
    """A made-up input: normal noise in the model's shape, of a usual size that it takes where that is free."""
    _, sized = at_usual_size(subject.graph, subject.image)
    declared = zip(subject.image.layout, sized.shape(subject.image.name) or (), strict=True)
    shape = [size if isinstance(size, int) and size > 0 else NOMINAL[axis] for axis, size in declared if axis != "N"]
    if math.prod(shape) > LARGEST_NOISE:
        raise UsageError(f"the model takes images of shape {shape}, too large to make one up: give an IMAGE")
    return noise_of(shape, subject.image.dtype, 0)


def noise_of(shape: Sequence[int], dtype: str, seed: int) -> Array:
    """Normal noise, for bytes as grey as a photo."""
    values = np.random.default_rng(seed).standard_normal(shape, np.float32)
    if dtype in ("uint8", "int8"):
        return np.rint(values * 64 + 128).clip(0, np.iinfo(dtype).max).astype(dtype)
    return values.astype(dtype)


def finite(name: str, values: Array, where: str) -> CheckResult:
    """Whether there is neither NaN nor infinity."""
    bad = int(np.count_nonzero(~np.isfinite(values)))
    return CheckResult(name, bad == 0, f"{bad} not finite", "0", where)


def forward(subject: Rewritten, x: Array, at: TargetLayer, limit: float) -> Iterator[CheckResult]:
    """The outputs of what we run against those of the file as given, unoptimized on both sides."""
    original = {
        output: value
        for output, value in run_original(subject, x).items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    }
    if not original:
        yield CheckResult("forward", True, NOT_MEASURED, "", "no output holds numbers")
    for name, outputs in run_rewritten(subject, x, at).items():
        for output, value in original.items():
            if output not in outputs:
                continue
            if outputs[output].shape != value.shape:
                shapes = f"{list(outputs[output].shape)} and {list(value.shape)}"
                yield CheckResult(f"forward: {name}", False, f"shapes {shapes}", "the same", output)
                continue
            found = apart(outputs[output], value) / (largest(value) or 1.0)
            yield CheckResult(f"forward: {name}", found <= limit, f"{found:.1e}", f"{limit:.0e}", output)


def gradient(case: Case, symbolic: Array) -> Iterator[CheckResult]:
    """The symbolic gradient at the layer, and against differences of the head."""
    where = f"d {case.target.name} / d {case.at.name}"
    yield finite("gradient finite", symbolic, where)
    yield CheckResult(
        "gradient not all zero", bool(symbolic.any()), f"largest {np.max(np.abs(symbolic)):.2e}", "> 0", where
    )
    yield against_differences(case, symbolic, where)


def against_differences(case: Case, symbolic: Array, where: str) -> CheckResult:
    """The symbolic gradient against differences along some directions.

    Where the head rounds there are no differences, and rounding may drown them: then nothing was measured.
    """
    name, limit = "symbolic against numeric", f"{SAME_GRADIENT} apart"
    if node := case.subject.rounding(case.at):
        return CheckResult(name, True, NOT_MEASURED, limit, f"{node} rounds: there are no differences over it")
    if not np.isfinite(symbolic).all():
        return CheckResult(name, False, "not finite", limit, where)
    try:
        apart, settled = apart_from_differences(case.subject, case.at, case.seen, case.ask, symbolic[0])
    except InputError as error:  # other activations give scores of another shape, or that nothing can be read of
        return CheckResult(name, True, NOT_MEASURED, limit, str(error))
    if not settled:
        return CheckResult(name, True, NOT_MEASURED, limit, "the score jumps, or changes by less than its rounding")
    measured = f"{apart:.1e} apart in {settled} direction{'s' if settled > 1 else ''}"
    still = 1 - float(moved(to_grid(case.layer_values, case.at.layout)[0]).mean())
    return CheckResult(
        name, apart <= SAME_GRADIENT, measured, limit, where + (f", {still:.0%} at a bound left" if still else "")
    )


# -- sensitivity ------------------------------------------------------------------------------------


def by_image(case: Case, own: Array) -> CheckResult:
    """Whether noise instead of the image gives another map."""
    name = "map changes with the image"
    try:
        other = case.subject.see(noise_of(case.seen.x.shape, case.subject.image.dtype, 1), case.at, "symbolic")
        on_noise = raw_map(case, other, case.subject.layer_gradient(case.at, other, case.ask))
    except (InputError, TargetError) as error:  # not every model can be fed noise, or finds as much in it
        return CheckResult(name, True, NOT_MEASURED, f"> {CHANGED}", str(error))
    return changed(name, own, on_noise, f"{case.target.name}, here and on noise")


def by_class(case: Case, own: Array) -> CheckResult:
    """Whether the best class, or the second best where that is explained, has another map."""
    name, scores = "map changes with the class", case.seen.scores
    if scores.ndim != 2 or scores.shape[1] < 2:
        why = "there is one class alone" if scores.ndim < 3 else "the scores are no row of classes"
        return CheckResult(name, True, NOT_MEASURED, f"> {CHANGED}", why)
    other = class_target(next(i for i in best(scores[0], 2) if i != case.target.index), case.reading)
    gradients = case.subject.layer_gradient(case.at, case.seen, Ask([0], [other]))
    return changed(name, own, raw_map(case, case.seen, gradients), f"{case.target.name} and {other.name}")


def raw_map(case: Case, seen: Seen, gradients: Array) -> Array:
    """Grad-CAM before its ReLU."""
    with np.errstate(all="ignore"):  # what is not finite has its own line
        return grad_cam(to_grid(seen.values[case.at.name], case.at.layout), gradients)


def changed(name: str, one: Array, other: Array, where: str) -> CheckResult:
    """Whether two maps are two: their distance over the longer one's length."""
    with np.errstate(all="ignore"):
        longest = float(np.maximum(np.linalg.norm(one), np.linalg.norm(other))) or 1.0
        apart = float(np.linalg.norm(one - other)) / longest
    return CheckResult(name, apart > CHANGED, f"by {apart:.2g}", f"> {CHANGED}", where)
