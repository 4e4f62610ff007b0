"""Per-pixel sums that hold all the series fit needs to know of the frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import launch, read_only

from ._counts import CountsFrame
from ._projection_kernels import count_blocks, fold
from ._records import PixelSums, WeightedFrames

# Frames collected before they are folded in: each pass over the sums then serves sixteen frames.
_PENDING = 16


class SufficientStatistics:
    """Weighted projections of all frames on a small basis, for every pixel.

    Memory is fixed at construction, whatever the number of frames: per pixel one float64 per basis function and
    one for the squared data, and sixteen frames waiting to be folded in. Pixels with missing values belong to a
    *history*, the set of frames they missed; each history has a Gram matrix of its own, so that missing values
    are treated exactly. Frames may come in any order.

    Parameters
    ----------
    n_pixels : int
        Pixels per frame.
    n_basis : int
        Basis functions.

    Attributes
    ----------
    sums : ndarray of float64, shape (n_basis + 1, n_pixels)
        Sums of weight * basis * y and, last, of weight * y**2.
    gram : ndarray of float64, shape (n_basis, n_basis)
        Sum of weight * basis * basis over all frames.
    n_frames : int
        Frames so far.
    highest, at_highest, saturated : ndarray, shape (n_pixels,)
        Highest value, how often it was met exactly, and how many values were infinite.
    """

    def __init__(self, n_pixels: int, n_basis: int) -> None:
        self.n_pixels = n_pixels
        self.n_basis = n_basis
        self.n_frames = 0
        self.sums: NDArray[np.float64] = np.zeros((n_basis + 1, n_pixels))
        self.gram: NDArray[np.float64] = np.zeros((n_basis, n_basis))
        self.highest: NDArray[np.float32] = np.full(n_pixels, -np.inf, np.float32)
        self.at_highest: NDArray[np.uint16] = np.zeros(n_pixels, np.uint16)
        self.saturated: NDArray[np.uint16] = np.zeros(n_pixels, np.uint16)
        self.missing = MissingFrames(n_pixels, n_basis)
        self._pending: NDArray[np.float32] | None = None
        self._projector = np.empty((_PENDING, n_basis))
        self._weight = np.empty(_PENDING)
        self._n_pending = 0

    @property
    def pixels(self) -> PixelSums:
        """The sums as kernels take them."""
        return PixelSums(self.sums, self.highest, self.at_highest, self.saturated)

    def push(self, projector: NDArray[np.float64], frame: NDArray[np.float32], weight: float) -> None:
        """Add one frame of optical depth, shape (n_pixels,)."""
        self._slot()[...] = frame
        self._commit(projector, weight)

    def push_counts(self, projector: NDArray[np.float64], frame: CountsFrame, weight: float) -> None:
        """Correct one frame of detector counts and add it."""
        frame.correct(self._slot())
        self._commit(projector, weight)

    def push_stack(
        self, projector: NDArray[np.float64], stack: NDArray[np.float32], weight: NDArray[np.float64]
    ) -> None:
        """Add many frames, shape (n_frames, n_pixels), without copying them."""
        self._fold(stack, projector, weight)
        self.n_frames += stack.shape[0]

    def retract(self, projector: NDArray[np.float64], frame: NDArray[np.float32], weight: float) -> None:
        """Take one frame, shape (n_pixels,), out again that has been added with the same projector and weight.

        ``highest`` stays where it is for pixels that had their highest value in that frame alone: an upper bound.
        """
        self.flush()
        stack = np.ascontiguousarray(frame)[None]
        # Nothing is higher than this, so that the kernel leaves it alone.
        beyond = np.full(self.n_pixels, np.inf, np.float32)
        untouched, saturated = np.zeros(self.n_pixels, np.uint16), np.zeros(self.n_pixels, np.uint16)
        missing = np.zeros((count_blocks(self.n_pixels), 1), np.int64)
        frames = WeightedFrames(read_only(stack), projector[None], read_only(np.array([-weight])))
        launch(fold, frames, PixelSums(self.sums, beyond, untouched, saturated), missing)
        gram = weight * np.outer(projector, projector)
        self.gram -= gram
        self.n_frames -= 1
        self.saturated -= saturated
        self.at_highest -= ((frame == self.highest) & (self.at_highest > 0)).astype(np.uint16)
        if missing.any():
            self.missing.add(~np.isfinite(frame), -gram, -1)
        unseen = self.missing.times_missed == self.n_frames
        self.highest[unseen] = -np.inf
        self.at_highest[unseen] = 0

    def merge(self, other: SufficientStatistics) -> None:
        """Add all frames of another one of the same pixels and basis; the other stays as it is, but for waiting frames.

        The outcome is that of adding the frames themselves, in any order, to rounding.
        """
        self.flush()
        other.flush()
        self.sums += other.sums
        self.gram += other.gram
        self.n_frames += other.n_frames
        self.saturated += other.saturated
        same, higher = self.highest == other.highest, other.highest > self.highest
        self.at_highest = np.where(
            higher, other.at_highest, self.at_highest + np.where(same, other.at_highest, 0).astype(np.uint16)
        )
        self.highest = np.maximum(self.highest, other.highest)
        self.missing.merge(other.missing)

    def place(self, pixels: NDArray[np.intp], part: SufficientStatistics, *, first: bool) -> None:
        """Take over the sums of some of the pixels from one that holds nothing else.

        Parameters
        ----------
        pixels : ndarray, shape (n,)
            Flat indices of its pixels in this image.
        part : SufficientStatistics
            Sums of the same frames as all other parts.
        first : bool
            Whether it is the first part, which brings what is common to all pixels.
        """
        part.flush()
        self.sums[:, pixels] = part.sums
        for mine, theirs in (
            (self.highest, part.highest),
            (self.at_highest, part.at_highest),
            (self.saturated, part.saturated),
        ):
            mine[pixels] = theirs
        if first:
            self.gram[...] = part.gram
            self.n_frames = part.n_frames
        self.missing.place(pixels, part.missing)

    def flush(self) -> None:
        """Fold in what is waiting; call before reading the sums."""
        if self._n_pending and self._pending is not None:
            n = self._n_pending
            self._fold(self._pending[:n], self._projector[:n], self._weight[:n])
            self._n_pending = 0

    def _slot(self) -> NDArray[np.float32]:
        if self._pending is None:
            self._pending = np.empty((_PENDING, self.n_pixels), np.float32)
        slot: NDArray[np.float32] = self._pending[self._n_pending]
        return slot

    def _commit(self, projector: NDArray[np.float64], weight: float) -> None:
        self._projector[self._n_pending] = projector
        self._weight[self._n_pending] = weight
        self._n_pending += 1
        self.n_frames += 1
        if self._n_pending == _PENDING:
            self.flush()

    def _fold(
        self, stack: NDArray[np.float32], projector: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> None:
        missing = np.zeros((count_blocks(self.n_pixels), stack.shape[0]), np.int64)
        launch(fold, WeightedFrames(read_only(stack), projector, read_only(weight)), self.pixels, missing)
        self.gram += (projector * weight[:, None]).T @ projector
        for f in np.flatnonzero(missing.sum(axis=0)):
            self.missing.add(~np.isfinite(stack[f]), weight[f] * np.outer(projector[f], projector[f]))


class MissingFrames:
    """Which frames each pixel missed, kept as distinct histories with the Gram matrix of what was missed.

    Memory grows with the number of distinct histories: a block of dead pixels is one history, however long.

    Parameters
    ----------
    n_pixels : int
        Pixels per frame.
    n_basis : int
        Basis functions.
    """

    def __init__(self, n_pixels: int, n_basis: int) -> None:
        self._n_pixels = n_pixels
        self._history: NDArray[np.int32] | None = None
        self._grams = np.zeros((1, n_basis, n_basis))
        self._missed = np.zeros(1, np.int64)
        self._members = np.array([n_pixels], np.int64)

    def add(self, absent: NDArray[np.bool_], gram: NDArray[np.float64], times: int = 1) -> None:
        """Note that some pixels miss a frame.

        Parameters
        ----------
        absent : ndarray of bool, shape (n_pixels,)
            Pixels that miss it.
        gram : ndarray, shape (n_basis, n_basis)
            What the frame adds to the Gram matrix of the other pixels.
        times : int
            1; -1 and the negative of ``gram`` for a frame that was missed and is taken out again.
        """
        if self._history is None:
            self._history = np.zeros(self._n_pixels, np.int32)
        old, where, count = np.unique(self._history[absent], return_inverse=True, return_counts=True)
        # A history that all its members leave together is continued in place; the complete one (0) never.
        whole = (count == self._members[old]) & (old != 0)
        new = old.copy()
        split = ~whole
        n_new = int(split.sum())
        new[split] = self._members.size + np.arange(n_new)
        self._grams = np.concatenate([self._grams, self._grams[old[split]]])
        self._missed = np.concatenate([self._missed, self._missed[old[split]]])
        self._members = np.concatenate([self._members, count[split]])
        self._members[old[split]] -= count[split]
        self._grams[new] += gram
        self._missed[new] += times
        self._history[absent] = new[where]
        if times < 0:
            self._drop_complete()

    def merge(self, other: MissingFrames) -> None:
        """Let each pixel miss what it misses in another one too."""
        if other._history is None:
            return
        if self._history is None:
            self._history = np.zeros(self._n_pixels, np.int32)
        n_theirs = other._missed.size
        pair = self._history.astype(np.int64) * n_theirs + other._history
        pairs, where, members = np.unique(np.r_[0, pair], return_inverse=True, return_counts=True)
        members[0] -= (
            1  # the pair of complete histories, which has to be the first also where no pixel has it
        )
        mine, theirs = np.divmod(pairs, n_theirs)
        self._grams = self._grams[mine] + other._grams[theirs]
        self._missed = self._missed[mine] + other._missed[theirs]
        self._members = members.astype(np.int64)
        self._history = where[1:].astype(np.int32)

    def place(self, pixels: NDArray[np.intp], part: MissingFrames) -> None:
        """Take over the histories of some of the pixels, which were complete here."""
        if part._history is None:
            return
        if self._history is None:
            self._history = np.zeros(self._n_pixels, np.int32)
        offset = self._missed.size - 1
        moved = part._history > 0
        self._history[pixels[moved]] = part._history[moved] + offset
        self._grams = np.concatenate([self._grams, part._grams[1:]])
        self._missed = np.concatenate([self._missed, part._missed[1:]])
        self._members = np.concatenate([self._members, part._members[1:]])
        self._members[0] -= int(moved.sum())

    def _drop_complete(self) -> None:
        """Let pixels that miss nothing any more be complete again."""
        assert self._history is not None
        complete = self._missed == 0
        self._history[complete[self._history]] = 0
        self._members[0] += int(self._members[1:][complete[1:]].sum())
        self._members[1:][complete[1:]] = 0
        self._grams[complete] = 0.0
        if not self._history.any():
            self._history = None

    @property
    def times_missed(self) -> NDArray[np.int64]:
        """Frames that each pixel misses, shape (n_pixels,)."""
        if self._history is None:
            return np.zeros(self._n_pixels, np.int64)
        return self._missed[self._history]

    @property
    def any(self) -> bool:
        """Whether any pixel misses any frame."""
        return self._history is not None

    def histories(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Pixels with missing frames, ordered by history.

        Returns
        -------
        pixels : ndarray, shape (n,)
            Flat indices of the pixels with missing frames.
        history : ndarray, shape (n,)
            Row of each in the two arrays below.
        grams : ndarray, shape (n_histories, n_basis, n_basis)
            Gram matrix of the missed frames.
        missed : ndarray, shape (n_histories,)
            How many were missed.
        """
        if self._history is None:
            empty = np.zeros(0, np.int64)
            return empty, empty, self._grams, self._missed
        pixels = np.flatnonzero(self._history)
        history = self._history[pixels].astype(np.int64)
        order = np.argsort(history, kind="stable")
        return pixels[order], history[order], self._grams, self._missed
