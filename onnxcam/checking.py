"""`check`: does the rewritten model still say the same, is its gradient the gradient, does the map say anything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError, TargetError, UsageError
from onnxcam.explainer import Ask, Explainer, Place, Seen, advised
from onnxcam.explainer.grids import to_grid
from onnxcam.explainer.parity import run_original, run_rewritten
from onnxcam.explainer.rewritten import Rewritten
from onnxcam.graph import NOMINAL, at_usual_size
from onnxcam.methods import grad_cam
from onnxcam.runtime import moved
from onnxcam.targets import Reading, Target, best, class_target, some_target

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]
SAME_FORWARD = 1e-4  # of the largest value; for float16 as much as its last bits
SAME_GRADIENT = 0.05  # of the derivative along a direction
LARGEST_NOISE = 2**26  # elements of a made-up input
NOT_MEASURED = "not measured"
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
    preprocess: str | Path | Mapping[str, Any] | None = None,
    feeds: Mapping[str, Any] | None = None,
) -> list[CheckResult]:
    """Check a model's explanation on one image (default: noise).

    Forward parity of every rewritten form with the original, symbolic against numeric gradient on the head, finite
    values all along, and a Grad-CAM map that is another one for another image and for another class.

    Raises:
        OnnxCamError: the model cannot be explained at all, in one line.
    """
    explainer = Explainer(model, provider=provider, score=score, preprocess=preprocess, feeds=feeds)
    subject = explainer.subject
    if not isinstance(subject, Rewritten):
        raise UsageError(f"{subject.name} is an exported file: check the model it was made from")
    x = explainer.item(noise(subject) if image is None else image).row[None]
    subject = subject.for_size(x.shape[1:])
    place = subject.place(layer, "gradcam", size=x.shape[1:])
    with advised(subject, place):
        seen = subject.see(x, place, "symbolic")
    target = [some_target(reading_of(subject, seen))]
    ask = Ask([0], target)
    limit = max(SAME_FORWARD, 2 * float(np.finfo(seen.values[place.name].dtype).eps))
    return [
        *forward(subject, x, place, limit),
        finite("activations finite", seen.values[place.name], place.name),
        *gradient(subject, place, seen, ask, target[0]),
        by_image(subject, place, seen, ask),
        by_class(subject, place, seen, ask),
    ]


def reading_of(subject: Rewritten, seen: Seen) -> Reading:
    """The scores of the image that is checked."""
    score = subject.score
    return Reading(seen.scores[0], score.axes, score.squash, probability=score.kind == "probability")


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


def forward(subject: Rewritten, x: Array, place: Place, limit: float) -> Iterator[CheckResult]:
    """The outputs of what we run against those of the file as given, unoptimized on both sides."""
    original = {
        output: value
        for output, value in run_original(subject, x).items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    }
    if not original:
        yield CheckResult("forward", True, NOT_MEASURED, "", "no output holds floating-point numbers")
    for name, outputs in run_rewritten(subject, x, place).items():
        for output, value in original.items():
            if output not in outputs:
                continue
            if outputs[output].shape != value.shape:
                shapes = f"{list(outputs[output].shape)} and {list(value.shape)}"
                yield CheckResult(f"forward: {name}", False, f"shapes {shapes}", "the same", output)
                continue
            scale = float(np.max(np.abs(value), initial=0.0)) or 1.0
            apart = float(np.max(np.abs(outputs[output].astype(np.float64) - value), initial=0.0)) / scale
            yield CheckResult(f"forward: {name}", apart <= limit, f"{apart:.1e}", f"{limit:.0e}", output)


def gradient(subject: Rewritten, place: Place, seen: Seen, ask: Ask, target: Target) -> Iterator[CheckResult]:
    """The symbolic gradient at the layer, and against differences of the head."""
    symbolic = subject.layer_gradient(place, seen, ask)
    where = f"d {target.name} / d {place.name}"
    yield finite("gradient finite", symbolic, where)
    yield CheckResult(
        "gradient not all zero", bool(symbolic.any()), f"largest {np.max(np.abs(symbolic)):.2e}", "> 0", where
    )
    yield against_differences(subject, place, seen, ask, symbolic, where)


def against_differences(
    subject: Rewritten, place: Place, seen: Seen, ask: Ask, symbolic: Array, where: str
) -> CheckResult:
    """The symbolic gradient against differences along some directions.

    Where the head rounds there are no differences, and rounding may drown them: then nothing was measured.
    """
    name, limit = "symbolic against numeric", f"{SAME_GRADIENT} apart"
    if node := subject.rounding(place):
        return CheckResult(name, True, NOT_MEASURED, limit, f"{node} rounds: there are no differences over it")
    if not np.isfinite(symbolic).all():
        return CheckResult(name, False, "not finite", limit, where)
    try:
        apart, settled = subject.apart_from_differences(place, seen, ask, symbolic[0])
    except InputError as error:  # other activations give scores of another shape, or that nothing can be read of
        return CheckResult(name, True, NOT_MEASURED, limit, str(error))
    if not settled:
        return CheckResult(name, True, NOT_MEASURED, limit, "the score jumps, or changes by less than its rounding")
    measured = f"{apart:.1e} apart in {settled} direction{'s' if settled > 1 else ''}"
    still = 1 - float(moved(seen.values[place.name]).mean())
    return CheckResult(
        name, apart <= SAME_GRADIENT, measured, limit, where + (f", {still:.0%} zeros left" if still else "")
    )


# -- sensitivity ------------------------------------------------------------------------------------


def by_image(subject: Rewritten, place: Place, seen: Seen, ask: Ask) -> CheckResult:
    """Whether noise instead of the image gives another map."""
    name = "map changes with the image"
    try:
        other = subject.see(noise_of(seen.x.shape, subject.image.dtype, 1), place, "symbolic")
        maps = raw_map(subject, place, seen, ask), raw_map(subject, place, other, ask)
    except (InputError, TargetError) as error:  # not every model can be fed noise, or finds as much in it
        return CheckResult(name, True, NOT_MEASURED, f"> {CHANGED}", str(error))
    return changed(name, *maps, f"{ask.targets[0].name}, here and on noise")


def by_class(subject: Rewritten, place: Place, seen: Seen, ask: Ask) -> CheckResult:
    """Whether the second best class has another map than the best."""
    name, first = "map changes with the class", ask.targets[0]
    if seen.scores.ndim != 2 or seen.scores.shape[1] < 2:
        why = "there is one class alone" if seen.scores.ndim < 3 else "the scores are no row of classes"
        return CheckResult(name, True, NOT_MEASURED, f"> {CHANGED}", why)
    second = class_target(next(i for i in best(seen.scores[0], 2) if i != first.index), reading_of(subject, seen))
    maps = raw_map(subject, place, seen, ask), raw_map(subject, place, seen, Ask([0], [second]))
    return changed(name, *maps, f"{first.name} and {second.name}")


def raw_map(subject: Rewritten, place: Place, seen: Seen, ask: Ask) -> Array:
    """Grad-CAM before its ReLU."""
    activations = to_grid(seen.values[place.name], place.layout)
    with np.errstate(all="ignore"):  # what is not finite has its own line
        return grad_cam(activations, subject.layer_gradient(place, seen, ask))


def changed(name: str, one: Array, other: Array, where: str) -> CheckResult:
    """Whether two maps are two: their distance over the longer one's length."""
    with np.errstate(all="ignore"):
        longest = float(np.maximum(np.linalg.norm(one), np.linalg.norm(other))) or 1.0
        apart = float(np.linalg.norm(one - other)) / longest
    return CheckResult(name, apart > CHANGED, f"by {apart:.2g}", f"> {CHANGED}", where)
