"""The fit of a scan whose corrected frames are in a file: tile by tile, with the result of the live analysis."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from callbacks.documents import FrameLoss, LeftOut, Slot
from callbacks.errors import CallbackError
from callbacks.reduce import Reduced, note_taken_out
from edge_fitting import EdgeFitter, EdgeFittingError, FrameJudge, StrayLight, without_stray_light

from ._depth_stack import StackedScan
from ._full_field import FULL_FIELD, FullFieldEstimator, is_compared
from ._full_field_result import result_of
from ._planned import references_of
from ._technique import EstimatorOptions, RunState

_MISSING = re.compile(r"\d+ of \d+ frames are missing")
_TILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Tile:
    """Some rows of the image.

    Attributes
    ----------
    first, stop : int
        The first row, and the one behind the last.
    """

    first: int
    stop: int


class StackFit:
    """Fits a scan whose frames are in a file.

    Parameters
    ----------
    scan : StackedScan
        What is known of the run.
    path : Path
        The file with its frames.
    options : EstimatorOptions
        What is asked for of the fit.
    tile_bytes : int
        How much of the frames to fit at once.

    Attributes
    ----------
    refused : tuple of FrameLoss
        Frames that the fit does not take, such as at energies that the references do not cover.
    doubted : tuple of FrameLoss
        Frames that do not belong to the others.

    Raises
    ------
    CallbackError
        There is nothing to fit: a bulk standard without references, or no frame that the fit takes.
    EdgeFittingError
        The options go together neither with each other nor with the scan.
    """

    def __init__(
        self, scan: StackedScan, path: Path, options: EstimatorOptions, *, tile_bytes: int = _TILE_BYTES
    ) -> None:
        self._scan, self._path, self._tile_bytes = scan, path, tile_bytes
        self._contract = scan.state.contract
        made = FULL_FIELD.estimator(self._contract, options)
        if not isinstance(made, FullFieldEstimator):
            raise CallbackError(
                f"run {self._contract.raw_uid[:8]} is a bulk standard, of which there is no map without references"
            )
        self._estimator = made
        self._whole = made.fitter_of(scan.shape)
        probe = made.fitter_of((1, 1))
        taken: list[tuple[Reduced, int]] = []
        refused: list[FrameLoss] = []
        doubts = _doubts(scan, options)
        for k, (frame, place) in enumerate(zip(scan.frames, scan.places, strict=True)):
            try:
                probe.push(frame.energy_ev, np.full((1, 1), 0.5, np.float32), frame.weight)
            except EdgeFittingError as error:
                refused.append(_loss(frame, f"the fit refuses it ({error})"))
            else:
                if k not in doubts:
                    taken.append((frame, place))
        self.refused = tuple(refused)
        self.doubted = tuple(_loss(scan.frames[k], f"it is {reason}") for k, reason in doubts.items())
        if not taken:
            raise CallbackError(
                f"no frame of run {self._contract.raw_uid[:8]} can be fitted: {refused[0].reason}"
                if refused
                else f"run {self._contract.raw_uid[:8]} holds no frames"
            )
        self._light = _stray_light(scan, options, {frame.slot for frame, _ in taken})
        self._frames = tuple(
            frame if self._light is None else note_taken_out(frame, self._light) for frame, _ in taken
        )
        self._places = tuple(place for _, place in taken)

    @property
    def tiles(self) -> list[Tile]:
        """The parts in which it is fitted: one where the method needs whole spectra of all pixels at once."""
        rows, columns = self._scan.shape
        if self._whole.keeps_frames:
            return [Tile(0, rows)]
        of_row = 4 * columns * len(self._frames)
        n_tiles = min(rows, -(-rows * of_row // self._tile_bytes))
        edges = np.linspace(0, rows, n_tiles + 1).round().astype(int).tolist()
        return [Tile(first, stop) for first, stop in pairwise(edges)]

    def fit(self, tile: Tile) -> EdgeFitter:
        """Return a fitter that holds all frames of a tile.

        Raises
        ------
        OSError, ValueError
            The file with the frames is not what it was.
        """
        fitter = self._whole.tile((tile.first, 0), (tile.stop - tile.first, self._scan.shape[1]))
        own = replace(self._scan, frames=self._frames, places=self._places)
        depths = own.depths(self._path, slice(tile.first, tile.stop))
        if self._light is not None:
            depths = without_stray_light(depths, self._light.share)
        energies = np.array([frame.energy_ev for frame in self._frames])
        fitter.push(energies, depths, np.array([frame.weight for frame in self._frames]))
        return fitter

    def result(self, fitted: Sequence[tuple[Tile, EdgeFitter]], provenance: Mapping[str, Any]) -> xr.Dataset:
        """Return the result of all tiles.

        Parameters
        ----------
        fitted : sequence of (Tile, EdgeFitter)
            Together the whole image.
        provenance : mapping
            Who, what and which analysis.
        """
        if len(fitted) == 1:
            fitter = fitted[0][1]
        else:
            tiles = [((tile.first, 0), fitter) for tile, fitter in fitted]
            fitter = EdgeFitter.from_tiles(self._scan.shape, tiles)
        self._estimator.take_over(fitter, self._frames)
        update = self._estimator.result(_without(self._scan.state, (*self.refused, *self.doubted)))
        assert update is not None
        result = result_of(update)
        return result.assign_attrs({**provenance, **result.attrs})


def _judge(scan: StackedScan, options: EstimatorOptions) -> FrameJudge | None:
    """Return what compares the frames with each other; None where they are not compared."""
    contract = scan.state.contract
    references = options.references_for(contract.scan.edge) or references_of(contract)
    if not is_compared(contract, options, references):
        return None
    assert references is not None
    return FrameJudge(references, options.axis_offset)


def _stray_light(scan: StackedScan, options: EstimatorOptions, taken: set[Slot]) -> StrayLight | None:
    """Return the light beside the sample that the live analysis takes out at the end of a run."""
    judge = _judge(scan, options)
    kept = [k for k, frame in enumerate(scan.frames) if frame.slot in taken]
    if judge is None:
        return None
    try:
        return judge.stray_light(
            [scan.frames[k].energy_ev for k in kept],
            np.stack([scan.samples[k] for k in kept]),
            [scan.frames[k].weight for k in kept],
        )
    except EdgeFittingError:
        return None


def _doubts(scan: StackedScan, options: EstimatorOptions) -> dict[int, str]:
    """Return which frames the comparison of the live analysis leaves out at the end of a run, and why."""
    judge = _judge(scan, options)
    if judge is None:
        return {}
    try:
        doubts = judge.doubts(
            [frame.energy_ev for frame in scan.frames],
            np.stack(scan.samples),
            [frame.weight for frame in scan.frames],
        )
    except EdgeFittingError:
        return {}  # the fit refuses a frame, and says why
    return {doubt.index: doubt.reason for doubt in doubts}


def _without(state: RunState, losses: Sequence[FrameLoss]) -> RunState:
    """Return how the run went where these frames are left out as well."""
    if not losses:
        return state
    account = LeftOut()
    for loss in losses:
        account.add(loss)
    n_done = state.frames_done - len(losses)
    missing = f"{state.frames_expected - n_done} of {state.frames_expected} frames are missing"
    said, is_told = [], False
    for warning in state.warnings:
        if found := _MISSING.match(warning):
            said.append(missing + warning[found.end() :])
            is_told = True
        else:
            said.append(warning)
    if state.final and not is_told:
        said.append(missing)
    return replace(state, frames_done=n_done, warnings=(*account.sentences(), *said))


def _loss(frame: Reduced, reason: str) -> FrameLoss:
    exposure_s = float(frame.notes.get("exposure_s", 0.0))
    return FrameLoss(frame.slot, frame.label.attempt, frame.energy_ev, exposure_s, reason)
