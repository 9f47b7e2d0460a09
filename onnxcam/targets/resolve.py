"""From what a user says to targets: a table of spellings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from onnxcam.arguments import is_whole
from onnxcam.errors import InputError, TargetError, did_you_mean
from onnxcam.targets.forms import FORMS, class_target, default_target, in_place_of, over, sayable
from onnxcam.targets.kinds import Array, ClassTarget, DifferenceTarget, NegatedTarget, Target, check_class
from onnxcam.targets.reading import Reading
from onnxcam.targets.selections import ElementTarget
from onnxcam.targets.sequences import SimilarityTarget, TokensTarget, nothing_read, usual_blank, what_is_read

Spec = int | str | Target
LONGEST_SPEC, MOST_NOTS = 4000, 50  # characters of a target, and how often it may be negated
MOST = 1000  # targets that one "top:k" may stand for


def named_output(spec: Spec | None) -> str | None:
    """The output whose elements a target reads; None for the model's score."""
    if isinstance(spec, str):
        spelling, match = spelled(spec)
        return spelling.output(match)
    output = spec.output if spec is not None and isinstance(spec, Target) else None
    if not isinstance(output, str | None):
        raise TargetError(f"the output of a target is a name, not {type(output).__name__}")
    return output


def index_of(spec: Spec | None) -> int | None:
    """The class that a target names by its index; None where only scores and labels tell."""
    which: Any = spec.which if isinstance(spec, ClassTarget) and spec.label is None else spec
    if isinstance(which, str):
        return int(which.strip()) if re.fullmatch(r"\d{1,18}", which.strip()) else None
    found = index(which) if is_whole(which) else -1
    return found if found >= 0 else None


def resolve(spec: Spec | None, reading: Reading) -> list[Target]:
    """Targets for the scores of one image.

    Args:
        spec: None for what suggests itself; an index; a text, as the rows of SPELLINGS; or a Target.
        reading: the scores.

    Raises:
        TargetError: nothing of that kind, or a name that several classes bear.
    """
    if spec is None:
        return [default_target(reading)]
    if isinstance(spec, ClassTarget) and spec.label is None:
        return [class_target(spec.which, reading)]
    if isinstance(spec, Target):
        return [fitting(spec, reading.scores)]
    if is_whole(spec):
        return [class_target(int(spec), reading)]
    if not isinstance(spec, str):
        raise TargetError(f"a target is an index, a label, 'top:k' or a Target, not {type(spec).__name__}")
    return [fitting(target, reading.scores) for target in read(spec, reading)]


def read(text: str, reading: Reading) -> list[Target]:
    """Targets that a text stands for: by the first spelling that it fits."""
    spelling, match = spelled(text, reading.labels)
    found = spelling.targets(match, reading)
    return found if isinstance(found, list) else [found]


def spelled(text: str, labels: Sequence[str] | None = None) -> tuple[Spelling, re.Match[str]]:
    """The first spelling that a text fits, and how. One of the labels, letter by letter, is that label.

    TargetError at a text that is too long to be read, or negates without end.
    """
    if len(text) > LONGEST_SPEC or text.count("not ") > MOST_NOTS:
        raise TargetError(f"a target of {len(text)} characters ('{text[:40]}...') is too long to be one")
    text = text.strip()
    for row in SPELLINGS:
        match = re.fullmatch(row.pattern, text, re.DOTALL)
        if match is not None and not (row.label_first and labels is not None and text in labels):
            return row, match
    raise AssertionError("the last spelling fits any text")


def single(text: str, reading: Reading) -> Target:
    """The one target that a part of a text stands for."""
    found = read(text, reading)
    if len(found) != 1:
        raise TargetError(f"'{text[:40]}' stands for {len(found)} targets: name one")
    return found[0]


def fitting(target: Target, scores: Array) -> Target:
    """The target itself; TargetError when it is no functional of these scores."""
    try:
        cotangent = np.asarray(target.cotangent(scores))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # a stranger's class
        raise TargetError(
            f"{type(target).__name__} does not fit scores of shape {list(scores.shape)}: {error}"
        ) from error
    if cotangent.dtype.kind not in "biuf" or cotangent.shape != scores.shape or not np.isfinite(cotangent).all():
        each = f"each of the model's {len(scores)} classes" if scores.ndim == 1 else f"scores of shape {scores.shape}"
        raise TargetError(
            f"the target '{target.name}' has a cotangent of shape {cotangent.shape}: "
            f"it should hold a finite number for {each}"
        )
    if target.index is not None:
        check_class(target.index, scores.size)
    return target


# -- the spellings ------------------------------------------------------------------------------------


def by_index(match: re.Match[str], reading: Reading) -> Target:
    """`281`: the class of that index."""
    return class_target(int(match[0]), reading)


def by_rank(match: re.Match[str], reading: Reading) -> list[Target]:
    """`top:3`: the classes of the highest scores, or the surest detections, each on its own; ties: the first first."""
    if not re.fullmatch(r"\d{1,6}", match[1]) or not 1 <= int(match[1]) <= MOST:
        raise TargetError(f"'{match[0][:40]}' should be top:K with K from 1 to {MOST}")
    ranked = FORMS[reading.form].best
    if ranked is None:
        raise TargetError(f"top:K is for models that score classes: {sayable(reading)}")
    return ranked(int(match[1]), reading)


def by_name(match: re.Match[str], reading: Reading) -> Target:
    """`tabby`, or `label:7` where labels are numbers: the class of that name, in any case."""
    return class_target(by_label(match[1], reading), reading)


def element(match: re.Match[str], _: Reading) -> Target:
    """`boxes[3,4]`, `maps[2,:,10:20]`: what an index, in NumPy's spelling, selects of an output, summed."""
    return ElementTarget(match["at"], match["output"])


def between_elements(match: re.Match[str], reading: Reading) -> Target:
    """`boxes[3,4] not boxes[7,4]`: what one index selects less what another does, of the same output."""
    return DifferenceTarget(single(match[1], reading), single(match[2], reading))


def output_of_both(match: re.Match[str]) -> str | None:
    """The output that both elements are of. TargetError: they are of two."""
    one, other = named_output(match[1]), named_output(match[2])
    if one != other:
        raise TargetError(f"'{match[0]}' reads two outputs, '{one}' and '{other}': a difference is of one")
    return one


def similarity(match: re.Match[str], reading: Reading) -> Target:
    """`similar:IMAGE`, `dot:IMAGE`: the likeness of the embedding to another image's, cosine or dot product."""
    cosine = match[1] == "similar"
    what = "similarity" if cosine else "dot product"
    return SimilarityTarget(reading.scores_of(match[2]), f"{what} to {match[2].rpartition('/')[2]}", cosine)


def token(match: re.Match[str], reading: Reading) -> Target:
    """`token:3,17`: the log-probability of one token, by index or label, at one step of a sequence."""
    return tokens_target((int(match[1]),), (match[2],), reading)


def tokens(match: re.Match[str], reading: Reading) -> Target:
    """`tokens:5,9,2`: the log-probability of a sequence that begins with these tokens, by index or label."""
    parts = match[1].split(",")
    return tokens_target(tuple(range(len(parts))), parts, reading)


def tokens_target(steps: Sequence[int], names: Sequence[str], reading: Reading) -> Target:
    """Tokens at steps, by index or label."""
    check_sequence(reading)
    which = [class_of(name, reading) for name in names]
    shown = " ".join(name.strip().removeprefix("label:") for name in names)
    at = f"step {steps[0]}" if len(steps) == 1 else f"steps 0 to {steps[-1]}"
    return TokensTarget(tuple(steps), tuple(which), f"'{shown}' at {at}", reading.axis)


def ctc(match: re.Match[str], reading: Reading) -> Target:
    """`ctc`, `ctc:BLANK`: the log-probability of what is read, summed over the steps that are not blank.

    Blank is token 0, or the last one where that is read at more than half of the steps.
    """
    check_sequence(reading)
    blank = int(match[1]) if match[1] else usual_blank(reading)
    check_class(blank, reading.scores.shape[reading.axis])
    found = what_is_read(reading, blank)
    if found is None:
        raise nothing_read(blank)
    return found


def check_sequence(reading: Reading) -> None:
    """TargetError unless the scores are steps of tokens."""
    if reading.form != "rows":
        raise TargetError(f"tokens are explained in a sequence of steps: {sayable(reading)}")


def negation(match: re.Match[str], reading: Reading) -> Target:
    """`not tabby`: the negative of any target: why not; of a single sigmoid, why no."""
    return NegatedTarget(single(match[1], reading))


def difference(match: re.Match[str], reading: Reading) -> Target:
    """`tabby not lynx`: a target less another class; where it has a region or a row, the class in the same."""
    one = single(match[1], reading)
    return DifferenceTarget(one, in_place_of(one, class_of(match[2], reading), reading))


def over_region(match: re.Match[str], reading: Reading) -> Target:
    """`dog@10,20,200,180`, `dog@mask.png`, `dog@all`: a segmentation's class over a region of the photo."""
    if reading.form not in ("maps", "map"):
        raise TargetError(f"CLASS@REGION is for models that give maps: {sayable(reading)}")
    which, where = class_of(match[1], reading), match[2].strip()
    box = re.fullmatch(r"(-?\d+(?:\.\d+)?)(?:\s*,\s*(-?\d+(?:\.\d+)?)){3}", where)
    if where == "all":
        shape = tuple(n for n, axis in zip(reading.scores.shape, reading.axes, strict=True) if axis != "C")
        mask, called = np.ones(shape, bool), "the whole image"
    else:
        mask = reading.region(tuple(map(float, where.split(","))) if box else where)
        called = where if box else where.rpartition("/")[2]
    if not mask.any():
        raise InputError(f"the region {where[:80]} covers nothing that the model sees: it is in pixels of the photo")
    return over(which, mask, called, reading)


class Spelling(NamedTuple):
    """One way to say a target: a pattern that the whole text has to match, and what it stands for.

    `label_first`: a text that is a label, letter by letter, is that label, though it fits the pattern.
    `output`: which output it reads; None for the model's score.
    """

    pattern: str
    targets: Callable[[re.Match[str], Reading], Target | list[Target]]
    label_first: bool = True
    output: Callable[[re.Match[str]], str | None] = lambda match: None


SPELLINGS = (
    Spelling(r"[+-]?\d{1,18}", by_index, label_first=False),
    Spelling(r"top:(.*)", by_rank, label_first=False),
    Spelling(r"label:(.*)", by_name, label_first=False),
    Spelling(r"(similar|dot):(.+)", similarity),
    Spelling(r"not\s+(.+)", negation, output=lambda match: named_output(match[1])),
    Spelling(r"(.+\])\s+(?:and\s+)?not\s+(.+\])", between_elements, output=output_of_both),
    Spelling(r"(?P<output>.+)\[(?P<at>[-+\d:,.\s]*)\]", element, output=lambda match: match["output"]),
    Spelling(r"token:(\d{1,9}),(.+)", token),
    Spelling(r"tokens:(.+)", tokens),
    Spelling(r"ctc(?::(\d{1,9}))?", ctc),
    Spelling(r"(.+?)\s+(?:and\s+)?not\s+(.+)", difference, output=lambda match: named_output(match[1])),
    Spelling(r"(.+)@(.+)", over_region),
    Spelling(r"(.*)", by_name, label_first=False),
)


def class_of(text: str, reading: Reading) -> int:
    """The class that a part of a text names: by index, label or label:NAME."""
    text = text.strip()
    return int(text) if re.fullmatch(r"\d{1,18}", text) else by_label(text.removeprefix("label:"), reading)


def by_label(label: str, reading: Reading) -> int:
    """The index of a label: spelled exactly, or differing in case alone."""
    labels = reading.labels
    if labels is None:
        lacking = f"the {reading.unfit} class names fit no axis of" if reading.unfit else "there are no labels"
        where = f" '{reading.score}', {' x '.join(map(str, reading.scores.shape))}" if reading.unfit else ""
        raise TargetError(
            f"the target '{label}' is a label, but {lacking}{where}: give --labels FILE, or the class's index"
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
    of_steps = "; what a sequence reads is the target ctc" if reading.form == "rows" else ""
    raise TargetError(f"no class is called '{label}'{did_you_mean(label, labels)}{of_steps}")
