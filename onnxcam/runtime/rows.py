"""Many rows through one session: together where that is proved to change nothing, else one by one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError, ModelError
from onnxcam.runtime.session import Session

Arrays = dict[str, npt.NDArray[Any]]
TOLERANCE = 1e-4  # of the largest value: what batching may change by rounding
LARGEST_BATCH = 64
MOST_COPIED = 2**36  # bytes


class Rows:
    """A session whose inputs and outputs all have rows along their first axis.

    A free batch axis is no promise: reshapes may mix rows, training-mode statistics certainly do. So the first row and
    a made-up one far from it are run together and alone; only when both agree do later rows share a run. Rows at hand
    would not do: those of several targets on one image differ in nothing that could be mixed. Nor would one class for
    both: where each row is made less by the mean of all, the gradients of one class add up to what they are alone.
    """

    def __init__(
        self, session: Session, *, may_batch: bool = True, bare: Collection[str] = (), copies: int = 1
    ) -> None:
        """Rows of a session.

        Args:
            session: the model.
            may_batch: whether rows may share a run at all.
            bare: values that have no axis of rows in the model: a run is one row.
            copies: the number of rows that a run takes, where it is fixed: one row is run as so many copies of it.
        """
        self.session, self._bare, self._copies = session, frozenset(bare), copies
        self._may_batch = may_batch and not bare and copies == 1
        self._proofs: dict[tuple[tuple[str, ...], frozenset[str]], bool] = {}

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> Arrays:
        """Outputs for all rows, in order. Every array of `feeds` has the same number of rows.

        Raises:
            ModelError: an output does not have one row for each.
            InputError: the model does not run on these.
        """
        count = len(next(iter(feeds.values())))
        if count == 1 and self._copies == 1 and not self._bare:
            return self._checked(self.session.run(feeds, outputs))
        if count == 1 or not self._together(feeds, outputs):
            parts = [self._alone(feeds, row, outputs) for row in range(count)]
        else:
            parts = [
                self.session.run({name: array[i : i + LARGEST_BATCH] for name, array in feeds.items()}, outputs)
                for i in range(0, count, LARGEST_BATCH)
            ]
        if len(parts) == 1:
            return parts[0]
        for name in outputs:
            if len({part[name].shape[1:] for part in parts}) > 1:
                raise InputError(f"'{name}' has another shape for every row: what it counts depends on the values")
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}

    def _alone(self, feeds: Arrays, row: int, outputs: Sequence[str]) -> Arrays:
        """The outputs of one row."""
        fed = {name: array[row : row + 1] for name, array in feeds.items()}
        fed |= {name: one.reshape(one.shape[1:]) for name, one in fed.items() if name in self._bare}
        if self._copies > 1:
            if self._copies * max(one.nbytes for one in fed.values()) > MOST_COPIED:
                raise ModelError(f"the model takes {self._copies} images at once, more than any memory holds")
            fed = {name: np.repeat(one, self._copies, axis=0) for name, one in fed.items()}
        return self._checked(self.session.run(fed, outputs))

    def _checked(self, values: Arrays) -> Arrays:
        """The one row of each value that a run for one row gave."""
        return {name: self._row_of(name, value) for name, value in values.items()}

    def _row_of(self, name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The one row of a run for one row; ModelError when the value has several, or none."""
        if name in self._bare:
            return value[None]
        shape = getattr(value, "shape", ())  # a sequence has none
        if not shape or shape[0] not in (1, self._copies):
            raise ModelError(
                f"'{name}' has shape {list(shape)} for one image: the model makes no single row of each image"
            )
        return value[:1]

    def _together(self, feeds: Arrays, outputs: Sequence[str]) -> bool:
        """Whether rows may share a run; found out once for the outputs, with one class for all rows or with several."""
        varied = {name: found for name, array in feeds.items() if (found := another(array)) is not None}
        key = tuple(outputs), frozenset(varied)
        if self._may_batch and key not in self._proofs:
            self._proofs[key] = self._proved({name: array[:1] for name, array in feeds.items()}, varied, outputs)
        return self._may_batch and self._proofs[key]

    def _proved(self, row: Arrays, varied: Arrays, outputs: Sequence[str]) -> bool:
        """Whether a row and one far from it, with numbers of another, together give what each gives alone."""
        other = {name: far_from(array) for name, array in row.items()}
        if all(np.array_equal(row[name], other[name]) for name in row):
            return False
        other |= varied
        try:
            alone = [self._alone(one, 0, outputs) for one in (row, other)]
            both = self.session.run({name: np.concatenate([row[name], other[name]]) for name in row}, outputs)
        except ModelError:  # a reshape with the batch baked in; or no model for made-up values
            return False
        return all(
            np.shape(both[name]) == (2, *np.shape(alone[0][name])[1:])
            and all(close(both[name][i : i + 1], alone[i][name]) for i in (0, 1))
            for name in outputs
        )


def another(array: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Where rows are one number each, a class for instance, the first that is not the first row's."""
    if array.size != len(array):
        return None
    different = np.flatnonzero(array.ravel() != array.ravel()[0])
    return array[different[0] :][:1] if different.size else None


def far_from(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values as a model may take them, in another place and far from the given ones; one number stays as it is.

    Floating point: of another sign, mean and range, so that sums, maxima and norms over both rows show. Bytes, pixels
    as a rule: inverted. Other integers may be indices and only change places.
    """
    turned = np.ascontiguousarray(array.reshape(-1)[::-1].reshape(array.shape))
    if turned.dtype.kind == "f" and turned.size > 1:
        finite = np.nan_to_num(turned.astype(np.float64), posinf=0, neginf=0)
        most = float(np.finfo(array.dtype).max)
        return ((np.max(np.abs(finite)) or 1) - 3 * finite).clip(-most, most).astype(array.dtype)
    return ~turned if turned.dtype in (np.uint8, np.int8) and turned.size > 1 else turned


def close(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Equal up to rounding, relative to the largest value."""
    return np.shape(one) == np.shape(other) and apart(one, other) <= TOLERANCE * largest(other) + 1e-30


def largest(array: npt.NDArray[Any]) -> float:
    """The largest magnitude among the finite values of an array; 0 where there are none."""
    wide = np.asarray(array, np.float64)
    return float(np.max(np.abs(wide), initial=0.0, where=np.isfinite(wide)))


def apart(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """The largest difference of arrays of one shape.

    Where one is NaN or infinite the other has to be the same; else the difference is infinite.
    """
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    finite = np.isfinite(second)
    if not np.array_equal(first[~finite], second[~finite], equal_nan=True) or not np.isfinite(first[finite]).all():
        return float("inf")
    return float(np.max(np.abs(first[finite] - second[finite]), initial=0.0))
