"""What `run` says to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxcam.cli.errors import one_line
from onnxcam.cli.record import Record
from onnxcam.cli.table import table
from onnxcam.explainer import Explainer
from onnxcam.imaging import Preprocess, Resize
from onnxcam.methods import get_method
from onnxcam.runtime import DETECTIONS

WHY = {
    "ok": "ok",
    "saturated": "saturated: the gradient of a probability within 1e-6 of 0 or 1, or of a cosine of 1, vanishes: "
    "--score NAME explains the logits, where the graph holds them",
    "not-finite": "not-finite: the map holds NaN or infinity",
}
OPPOSED = "blank: no position speaks for it at this layer"
EVEN = "blank: the map is the same everywhere"
NOTHING = (
    "blank: the map is zero everywhere: no gradient, as where a probability is certain (--score NAME explains its "
    "logits), or its parts cancel: try another method or layer"
)


def heading(explainer: Explainer, record: Record) -> str:
    """What holds for all images of a run."""
    score, used = record["score"], record["preprocess"]
    guess = " (a guess)" if used["guess"] else ""
    how = f": {steps(explainer.preprocess.recipe)}" if "resize" in used else ""
    lines = (
        f"{record['model']} on {record['provider']}, explaining {score['name']} ({score['kind']})",
        f"preprocessing {used['name']}{guess}{how}",
    )
    return "\n".join(one_line(line) for line in lines)


def notes(explainer: Explainer, record: Record, *, target_named: bool) -> list[str]:
    """What was guessed, and what makes every map doubtful, a line each."""
    return [one_line(f"Note: {doubt}") for doubt in doubts(explainer, record, target_named=target_named)]


def doubts(explainer: Explainer, record: Record, *, target_named: bool) -> Iterator[str]:
    """The same in sentences."""
    target, name, score = record["target"], record["score"]["name"], explainer.subject.score_or_none
    if doubt := explainer.subject.unsteady:
        yield doubt
    if record["placed"] != "followed":
        yield (
            "where the elements of the layer lie on the image could not be followed, the map is placed "
            f"{record['placed']} alone: it may be mirrored, moved or meaningless; compare --method saliency"
        )
    if record["preprocess"]["guess"]:
        white = explainer.subject.image.white
        why = "" if white is None else f", as the model itself normalizes 0..{white:g}"
        guess = f"'{record['preprocess']['name']}' is a guess{why}"
        yield f"nothing says how to preprocess, {guess}: say it with --preprocess"
    if score is not None and score.alike > 1 and score.name == name:
        yield f"{score.alike} outputs are alike, this explains the first, '{name}': say another with --score"
    if score is not None and score.axes == DETECTIONS and score.output != score.name == name:
        yield f"'{name}' are rows of a box, a score and a class, of the model's output {score.output}"
    if not target_named and target["index"] is None:
        yield f"no target was named, this explains {target['name']}: say another with --target"
    if score is not None and "R" in score.axes and score.name == name and get_method(record["method"]).mean_only:
        yield (
            f"{record['method']} takes the gradient's mean over the whole layer: where a single row or step looks, "
            "--method hirescam shows"
        )
    if not target_named and record["score"]["kind"] == "embedding":
        yield (
            f"'{name}' is scaled to length 1 as embeddings are, its numbers are no classes: say --target similar:IMAGE"
        )
    if record["score"]["guess"] and any(row["probability"] is not None for row in [target, *record["top"]]):
        yield (
            f"the model ends in raw outputs, no softmax: that '{name}' holds logits of one, and so the percentages, is "
            "a guess (of an embedding, say --target similar:IMAGE)"
        )
    if explainer.labels_guessed:
        yield "nothing names the 1000 classes, ImageNet's names are a guess: say them with --labels"
    if unfit := explainer.labels_unfit:
        yield f"the {unfit} class names fit no axis of '{name}' and are left out"


def block(records: Sequence[Record]) -> str:
    """One image: its best classes, then its maps and their files."""
    top: list[Record] = next((record["top"] for record in records if record["top"]), [])
    rows = [(row["index"], row["label"] or "", figure(row["score"]), percent(row["probability"])) for row in top]
    lines = [one_line(records[0]["image"])]
    if rows:
        lines.append(table(rows, indent="  "))
    for record in records:
        lines += [f"  {one_line(made(record))}", *(f"    {one_line(line)}" for line in found(record))]
    return "\n".join(lines)


def made(record: Record) -> str:
    """One map: what of, where, and whether it can be trusted."""
    target, method = record["target"], get_method(record["method"])
    index = "" if target["index"] is None or target["label"] is None else f" ({target['index']})"
    size = " x ".join(map(str, record["map"]["shape"]))
    how = ", numeric gradient" if record["gradient"] == "numeric" else ""
    how += "" if record["placed"] == "followed" else f", placed {record['placed']}"
    why = blank(record["map"]) if record["status"] == "blank" else WHY[record["status"]]
    what = f"{target['name']}{index}{worth(record)}"
    return f"{method.title} of {what} at {record['layer']}, {size}{how}: {why}"


def worth(record: Record) -> str:
    """What a target comes to, where no row of the table says it."""
    target = record["target"]
    if target["score"] is None or any(row["index"] == target["index"] for row in record["top"]):
        return ""
    probability = percent(target["probability"])
    return f" = {figure(target['score'])}" + (f", {probability}," if probability else "")


def blank(shown: Record) -> str:
    """Why there is nothing to see on a map."""
    if shown["min"] != shown["max"]:
        return OPPOSED
    return EVEN if shown["max"] else NOTHING


def found(record: Record) -> list[str]:
    """The box of one map, and its files."""
    boxes = [f"box {x0},{y0} to {x1},{y1}" for x0, y0, x1, y1 in record["boxes"] or []]
    return [*boxes, *record["files"]]


def figure(value: float | None) -> str:
    """A score."""
    return "not finite" if value is None else f"{value:.4g}"


def percent(probability: float | None) -> str:
    """A probability."""
    return "" if probability is None else f"{100 * probability:.1f} %"


def steps(recipe: Preprocess) -> str:
    """A recipe in words, in the order in which it is applied."""
    crop = f"crop {recipe.crop[0]}x{recipe.crop[1]}" if recipe.crop else ""
    scale = {1: "0..255", 1 / 255: "0..1"}.get(recipe.scale, f"times {recipe.scale:g}")
    mean = f"minus {numbers(recipe.mean)}" if any(recipe.mean) else ""
    std = f"over {numbers(recipe.std)}" if any(value != 1 for value in recipe.std) else ""
    parts = (resized(recipe.resize, recipe.filter), crop, recipe.channels, scale, mean, std)
    return ", ".join(part for part in parts if part)


def resized(resize: Resize, filter_name: str) -> str:
    """The first step; empty where the photo keeps its size."""
    if resize.to is None:
        return ""
    to = str(resize.to) if isinstance(resize.to, int) else "x".join(map(str, resize.to))
    steps = "" if resize.multiple == 1 else f" in multiples of {resize.multiple}"
    return f"{resize.how.replace('_', ' ')} {to}{steps} {filter_name}"


def numbers(values: Sequence[float]) -> str:
    """Numbers, one where all are equal."""
    return " ".join(f"{value:.6g}" for value in (values[:1] if len(set(values)) == 1 else values))
