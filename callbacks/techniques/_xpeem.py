"""XPEEM: frames of electrons to yields, and maps of the oxidation state of the surface."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.documents import Channel, LeftOut
from callbacks.reduce import ChannelPlate, Reduced, Reducer
from edge_fitting import EdgeFittingError
from scan_contract import RunContract, XpeemContract

from ._soft_images import Images, SoftImageFit, ascending
from ._technique import EstimatorOptions, RunState, Technique

Stack = npt.NDArray[np.float32]


class XpeemEstimator:
    """The mean yield at each energy so far.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    options : EstimatorOptions
        Whether images are registered.
    """

    def __init__(self, contract: RunContract, options: EstimatorOptions) -> None:
        self._scan = cast(XpeemContract, contract.scan)
        n = len(self._scan.energies_ev)
        self._sums: dict[int, tuple[Stack, Stack, int]] = {}
        self._read_ev = np.full(n, np.nan)
        self._last = 0
        self._fit = SoftImageFit(contract, options, None, "electron yield")

    def push(self, reduced: Reduced) -> None:
        """Add a frame.

        Raises
        ------
        EdgeFittingError
            It has another size than the others.
        """
        index, (image, variance) = reduced.label.energy_index, reduced.values
        held = next(iter(self._sums.values()), None)
        if held is not None and held[0].shape != image.shape:
            raise EdgeFittingError(f"it has {image.shape} pixels where the others have {held[0].shape}")
        before = self._sums.get(index)
        self._sums[index] = (
            (image, variance, 1)
            if before is None
            else (before[0] + image, before[1] + variance, before[2] + 1)
        )
        self._read_ev[index] = reduced.energy_ev
        self._last = index

    def retract(self, reduced: Reduced) -> None:
        """Take a frame out again."""
        index, (image, variance) = reduced.label.energy_index, reduced.values
        total, spread, count = self._sums.pop(index)
        if count > 1:
            self._sums[index] = total - image, spread - variance, count - 1

    def merge(self, other: "XpeemEstimator") -> None:
        """Add the frames of another part of the scan."""
        for index, (image, variance, count) in other._sums.items():
            before = self._sums.get(index)
            self._sums[index] = (
                (image, variance, count)
                if before is None
                else (before[0] + image, before[1] + variance, before[2] + count)
            )
        self._read_ev = np.where(np.isfinite(self._read_ev), self._read_ev, other._read_ev)

    def result(self, state: RunState) -> xr.Dataset | None:
        """Return maps, or the images alone where none can be made; None before the first frame."""
        if not self._sums:
            return None
        begun = np.array(sorted(self._sums))
        indices = begun[ascending(self._read_ev[begun])]
        values = np.stack([self._sums[index][0] / self._sums[index][2] for index in indices]).astype(
            np.float32
        )
        variance = np.stack([self._sums[index][1] / self._sums[index][2] ** 2 for index in indices]).astype(
            np.float32
        )
        # In units of the mean: what is looked for in the images does not depend on the camera's counts.
        scale = np.float32(abs(float(np.nanmean(values))) or 1.0)
        values, variance = values / scale, variance / scale**2
        images = Images(
            self._read_ev[indices], values, variance, np.ones(indices.size, bool), said=self._said()
        )
        last = self._last if self._last in self._sums else int(indices[-1])
        shown = (self._sums[last][0] / self._sums[last][2]).astype(np.float32)
        done = np.array([self._sums[index][2] / self._scan.repeats for index in indices])
        fields: dict[str, Any] = {"lines_done": done}
        return self._fit.dataset(state, images, shown, **fields)

    def _said(self) -> list[str]:
        if "i0" in self._scan.channels:
            return []
        return ["I0 was not measured: changes of the beam are in the yields"]


def _reducers(contract: RunContract, left_out: LeftOut) -> list[Reducer]:
    return [ChannelPlate()]


XPEEM = Technique(
    name="xpeem",
    contract=XpeemContract,
    reducers=_reducers,
    estimator=XpeemEstimator,
    channels={"image": Channel("camera", "image")},
)
"""Photoemission electron microscopy at a soft edge."""
