"""`run` as a loop: image by image, so that ten thousand need no more memory than one."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxcam.cli.feeds import read_feeds
from onnxcam.cli.images import expand
from onnxcam.cli.naming import FileStems, several, unique_stems
from onnxcam.cli.record import Record, best_classes, json_line, recipe_record, record_of
from onnxcam.cli.summary import block, heading, notes, steps
from onnxcam.cli.terminal import Reporter, reporter
from onnxcam.errors import ImageError, InputError, OutputError, PreprocessError, UsageError
from onnxcam.explainer import Explainer, Explanation, Item, choose_recipe
from onnxcam.imaging import colormap, override, printable
from onnxcam.methods import Method, get_method

Found = deque[tuple[Explanation, float]]  # explanations of one image, with the seconds that each took


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked of `run`: its arguments and options."""

    model: str
    images: Sequence[str]
    method: Sequence[str]
    layer: str | None
    target: Sequence[str]
    score: str | None
    feed: Sequence[str]
    gradient: str
    out: str
    npy: bool
    json: bool
    top_k: int
    boxes: bool
    colormap: str
    provider: str
    threads: int
    labels: str | None
    max_pixels: int | None
    quiet: bool
    preprocess: str | None
    overrides: Mapping[str, Any]


def explain_all(request: Request) -> int:
    """Explain every image; the exit code, 2 when one was refused.

    Raises:
        OnnxCamError: what would go wrong with every image alike.
    """
    methods = list({method.name: method for method in map(get_method, request.method)}.values())
    colormap(request.colormap)  # an unknown one is refused before the model is opened
    check_folder(Path(request.out))
    sources = list(expand(request.images))
    explainer = open_explainer(request)
    work = Work(request, explainer, methods, {os.path.realpath(path) for path in sources if isinstance(path, str)})
    outcomes: Counter[str] = Counter()
    with reporter(len(sources), quiet=request.quiet) as terminal:
        for source, stem in zip(sources, unique_stems(map(str, sources)), strict=True):
            records, refused = work.records(source, stem)
            if records:
                work.tell(records, terminal)
            for reason in refused:
                terminal.complain(reason if len(sources) == 1 else about(reason, source))
            outcomes["refused" if not records else "in part" if refused else "whole"] += 1
            terminal.step()
        if len(sources) > 1 and not (request.quiet or request.json):
            parts = f" ({outcomes['in part']} in part)" if outcomes["in part"] else ""
            terminal.say(f"{len(sources) - outcomes['refused']} explained{parts}, {outcomes['refused']} refused")
    return 2 if outcomes["refused"] or outcomes["in part"] else 0


def open_explainer(request: Request) -> Explainer:
    """The model, with the preprocessing that the options add up to."""
    explainer = Explainer(
        request.model, provider=request.provider, preprocess=request.preprocess, labels=request.labels,
        score=request.score, feeds=read_feeds(request.feed), threads=request.threads, max_pixels=request.max_pixels,
    )  # fmt: skip
    if any(value is not None for value in request.overrides.values()):
        base = explainer.preprocess
        changed = choose_recipe(override(base.recipe, **request.overrides), explainer.subject.image, {})
        explainer.preprocess = replace(changed, guess=base.guess)
    return explainer


def check_folder(out: Path) -> None:
    """UsageError when the output folder cannot become one; it is made when there is something to write."""
    there = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UsageError(f"the output folder {out} cannot be made: {there} is no folder; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"the output folder {out} cannot be written to: no permission; choose another --out")


def about(reason: str, source: str | ImageError) -> str:
    """The message, naming the image it is about."""
    return reason if printable(reason).startswith(f"{printable(str(source))} ") else f"{source}: {reason}"


def doubt(explainer: Explainer, item: Item) -> str:
    """That the preprocessing was a guess, which may be why an image is refused."""
    chosen = None if item.photo is None else explainer.preprocess
    if chosen is None or not chosen.guess:
        return ""
    return f" (the preprocessing may be why, {chosen.recipe.name} is a guess: {steps(chosen.recipe)})"


class Work:
    """What is done for every image, with one model."""

    def __init__(self, request: Request, explainer: Explainer, methods: Sequence[Method], inputs: set[str]) -> None:
        self._request, self._explainer, self._methods = request, explainer, methods
        self._inputs = inputs  # real paths of all images, which no output may replace
        self._out = Path(request.out)
        self._told = False

    def records(self, source: str | ImageError, stem: str) -> tuple[list[Record], list[str]]:
        """Explain one image and write its files: what was found, and why of the rest nothing is to be."""
        records: list[Record] = []
        try:
            found, refused = self.explain(source)
            records.extend(self.write(found, stem))  # as far as they can be written
        except (ImageError, OutputError, PreprocessError) as error:
            refused = [str(error)]
        except MemoryError:
            refused = ["not enough memory for this image: make it smaller"]
        return records, refused

    def explain(self, source: str | ImageError) -> tuple[Found, list[str]]:
        """All explanations of one image, each target once a method, and why some are none; nothing is written yet.

        Where the image does not hold what one of several targets asks for, each is explained by itself.
        """
        if isinstance(source, ImageError):
            raise source
        start = time.perf_counter()
        item, targets = self._explainer.item(source), list(dict.fromkeys(self._request.target))
        reading = time.perf_counter() - start
        try:
            return self._explained(item, targets, reading), []
        except InputError as error:
            found, refused = Found(), [str(error)]
        if len(targets) > 1:
            refused.clear()
            for target in targets:
                try:
                    found += self._explained(item, [target], reading)
                except InputError as error:
                    refused.append(str(error))
        why = "" if found else doubt(self._explainer, item)
        by_method = sorted(found, key=lambda made: self._methods.index(made[0].method))
        return Found(by_method), [reason + why for reason in dict.fromkeys(refused)]

    def _explained(self, item: Item, targets: Sequence[str], reading: float) -> Found:
        request, explainer, found = self._request, self._explainer, Found()
        for method in self._methods:
            start = time.perf_counter()
            # a layer is not meant for a method of the input beside one that reads it; alone that one refuses it
            layer = request.layer if method.uses_layer or not any(m.uses_layer for m in self._methods) else None
            (results,) = explainer.explain_items([item], list(targets) or None, method, layer, request.gradient)
            seconds = reading + time.perf_counter() - start
            found += [(e, seconds) for e in {e.target: e for e in results}.values()]
        return found

    def write(self, found: Found, stem: str) -> Iterator[Record]:
        """Write the files of one image, letting go of each explanation behind its record."""
        request, explainer = self._request, self._explainer
        names = FileStems(stem, with_target=several(request.target))
        while found:
            e, seconds = found.popleft()
            name = names.of(e.target, e.method.name)
            suffixes = [".png"] * (not e.is_volume) + [".npy"] * (request.npy or e.is_volume)
            files = [self._path(f"{name}{suffix}") for suffix in suffixes]
            self._make_folder()
            for path in files:
                e.save(path, colormap=request.colormap, with_boxes=request.boxes)
            yield record_of(
                e, top=best_classes(explainer, e, request.top_k), preprocess=recipe_record(explainer, e),
                boxes=request.boxes, files=list(map(str, files)), seconds=seconds,
            )  # fmt: skip

    def _path(self, name: str) -> Path:
        path = self._out / name
        if os.path.realpath(path) in self._inputs:
            raise UsageError(f"{path} is an image to explain and would be overwritten: choose another --out")
        return path

    def _make_folder(self) -> None:
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"the output folder {self._out} cannot be made: {error.strerror or error}") from error

    def tell(self, records: Sequence[Record], terminal: Reporter) -> None:
        """Print what was found of one image; before the first one what holds for all."""
        request = self._request
        if not self._told and not request.quiet:
            for note in notes(self._explainer, records[0], target_named=bool(request.target)):
                terminal.say(note, err=True)
            if not request.json:
                terminal.say(heading(self._explainer, records[0]))
        self._told = True
        if request.json:
            terminal.say("\n".join(map(json_line, records)))
        elif not request.quiet:
            terminal.say(block(records))
