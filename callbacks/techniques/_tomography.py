"""Rotation series: projections are summed as they come, and reconstructed to volumes of the state of charge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.ndimage import distance_transform_edt

from callbacks.documents import LeftOut
from callbacks.errors import CallbackError
from callbacks.reduce import FlatFieldCorrector, FrameScreen, Reduced, Reducer
from edge_fitting import EDGES, EdgeFittingError, ReconstructionSettings, ReferenceSeries
from scan_contract import ANGLE_AXIS, RunContract, TomographyContract, optional_import

from ._planned import references_of
from ._point_sweeps import about_scan
from ._projection_store import (
    DepthStore,
    InterleavedStore,
    SummedStore,
    Volume,
    bin_image,
    fitting_binning,
    make_store,
)
from ._technique import EstimatorOptions, RunState, Technique
from ._tomography_result import TOMOGRAPHY_SCHEMA

Image = npt.NDArray[np.float32]
Store = SummedStore | InterleavedStore | DepthStore
CleanUp = Literal["none", "sorting", "all"]

# A volume on the way is made again when there are so many times the projections of the last one, and has so many voxels
# along a side at most.
_GROWTH = 1.4
_LIVE_SIZE = 64
_FILLED_SHARE = 0.01
# A struck pixel lies below all neighbours by so many median differences of neighbours, and so much optical depth.
_STRUCK_SPREADS = 12.0
_LEAST_STRUCK = 0.1


@dataclass(frozen=True)
class TomographySettings:
    """How a rotation series is reconstructed.

    Attributes
    ----------
    filter_name : {"hann", "ramp"}
        Window on the ramp filter.
    centre_px : float, optional
        Column of the axis of rotation; by default it is found.
    take_out_runout : bool
        Whether projections are moved back by the run-out of the axis.
    clean_up : {"none", "sorting", "all"}
        What takes stripes out of sinograms, which are rings in slices: algotom's ``remove_stripe_based_sorting`` or
        ``remove_all_stripe``. Neither is linear.
    """

    filter_name: str = "hann"
    centre_px: float | None = None
    take_out_runout: bool = True
    clean_up: CleanUp = "none"

    def reconstruction(self) -> ReconstructionSettings:
        """Return the same for the reconstruction.

        Raises
        ------
        CallbackError
            There is no such clean-up.
        MissingPackageError
            It takes algotom, which is not installed.
        """
        clean_up = None
        if self.clean_up != "none":
            with optional_import("tomography", "taking stripes out of sinograms"):
                from algotom.prep import removal
            known = {"sorting": removal.remove_stripe_based_sorting, "all": removal.remove_all_stripe}
            if self.clean_up not in known:
                raise CallbackError(f"clean_up is 'none', 'sorting' or 'all', not {self.clean_up!r}")
            clean_up = known[self.clean_up]
        return ReconstructionSettings(self.filter_name, self.centre_px, self.take_out_runout, clean_up)


class TomographyEstimator:
    """Sums of the projections, and volumes reconstructed from them.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    references : ReferenceSeries or None
        Spectra of known state of charge; without them, or at one energy, the volume holds the optical depth only.
    settings : TomographySettings
        How volumes are reconstructed.
    """

    def __init__(
        self, contract: RunContract, references: ReferenceSeries | None, settings: TomographySettings
    ) -> None:
        self._contract = contract
        self._scan = cast(TomographyContract, contract.scan)
        self._references = references if references is None or references.coordinate == "soc" else None
        self._settings = settings.reconstruction()
        self._about = {"filter": settings.filter_name, "clean_up": settings.clean_up}
        self._store: Store | None = None
        self._binning = 1
        self._shape = (1, 1)
        self._own_warnings: list[str] = []
        self._n_filled, self._n_values = 0, 0
        self._n_frames, self._volume_of = 0, 0
        self._volume: Volume | None = None
        self._shown_binning = 1

    def push(self, reduced: Reduced) -> None:
        """Add one projection.

        Raises
        ------
        EdgeFittingError
            It does not fit the others, or says no angle.
        """
        place, depth, n_missing = self._projection(reduced)
        self._made_for(depth.shape).push(
            place, reduced.label.energy_index, reduced.energy_ev, self._shrunk(depth), self._weight(reduced)
        )
        self._n_filled += n_missing
        self._n_values += depth.size
        self._n_frames += 1

    def retract(self, reduced: Reduced) -> None:
        """Take one projection out again."""
        place, depth, n_missing = self._projection(reduced)
        self._made_for(depth.shape).retract(
            place, reduced.label.energy_index, reduced.energy_ev, self._shrunk(depth), self._weight(reduced)
        )
        self._n_filled -= n_missing
        self._n_values -= depth.size
        self._n_frames -= 1
        self._volume_of = 0

    def merge(self, other: "TomographyEstimator") -> None:
        """Add the projections of another part of the scan."""
        if other._store is None:
            return
        if self._store is None:
            self._store, self._binning, self._shape = other._store, other._binning, other._shape
            self._own_warnings = other._own_warnings
        else:
            self._store.merge(other._store)  # type: ignore[arg-type]
        self._n_frames += other._n_frames
        self._n_filled += other._n_filled
        self._n_values += other._n_values

    def result(self, state: RunState) -> xr.Dataset | None:
        """Return the volume with all that belongs to it; None before there is any.

        On the way it is a coarse one, made again when there are clearly more projections.
        """
        if self._store is None or not self._n_frames:
            return None
        said: list[str] = []
        if state.final or self._n_frames >= _GROWTH * self._volume_of:
            self._reconstruct(state.final, said)
        values: dict[str, Any] = {}
        if self._volume is not None:
            values |= _of_volume(self._volume, self._shown_binning)
        about: dict[str, Any] = {}
        projected = self._store.projected()
        if projected is not None:
            place, fit = projected
            values |= {"projected_soc": fit.values[0], "projected_soc_sigma": fit.values[1]}
            about["projected_angle_deg"] = self._scan.angles_deg[place]
        if not values:
            return None
        n_frames, mass = self._store.per_angle()
        values |= {
            "angle_deg": np.asarray(self._scan.angles_deg),
            "angle_n_frames": n_frames,
            "angle_mass": mass,
        }
        signal = next(name for name in ("soc", "attenuation", "projected_soc") if name in values)
        said = [*state.warnings, *self._own_warnings, *said, *self._said_of_volume()]
        return TOMOGRAPHY_SCHEMA.make(values, self._metadata(state, said) | about, signal=signal)

    def _reconstruct(self, final: bool, said: list[str]) -> None:
        assert self._store is not None
        binning = 1 if final else self._live_binning
        self._volume_of = self._n_frames
        try:
            volume = self._store.volume(self._settings, binning)
        except EdgeFittingError as error:
            if final:
                said.append(f"no volume: {str(error).rstrip('.')}")
            return
        if volume is not None:
            self._volume, self._shown_binning = volume, binning
        elif final:
            said.append(
                "no volume: there are too few angles, or too few energies to tell the state of charge from noise"
            )

    @property
    def _live_binning(self) -> int:
        return max(-(-self._shape[1] // _LIVE_SIZE), 1)

    def _made_for(self, shape: tuple[int, ...]) -> Store:
        if self._store is None:
            rows, cols = shape
            self._binning, words = fitting_binning(self._scan, self._references, (rows, cols))
            self._shape = rows // self._binning, cols // self._binning
            self._store, why = make_store(self._scan, self._references, self._shape)
            if words is not None:
                self._own_warnings.append(words)
            if why is not None:
                self._own_warnings.append(f"no state of charge, the optical depth only: {why}")
        return self._store

    def _shrunk(self, depth: Image) -> Image:
        return depth if self._binning == 1 else bin_image(depth, self._binning)

    def _weight(self, reduced: Reduced) -> float:
        """Return the weight of a projection: the same at every angle, lest the sums not fit together."""
        scan = self._scan
        return float(scan.exposure_s[reduced.label.energy_index] / np.mean(scan.exposure_s))

    def _projection(self, reduced: Reduced) -> tuple[int, Image, int]:
        place = reduced.label.axes.get(ANGLE_AXIS)
        if place is None or not 0 <= place < len(self._scan.angles_deg):
            raise EdgeFittingError(f"a projection at {reduced.energy_ev:.1f} eV does not say its angle")
        depth, n_missing = filled(reduced.values)
        return int(place), depth, n_missing

    def _said_of_volume(self) -> list[str]:
        said = []
        if self._n_filled > _FILLED_SHARE * max(self._n_values, 1):
            said.append(
                f"{100.0 * self._n_filled / self._n_values:.2g} % of the values of the projections are missing (dead "
                "or saturated pixels, spikes) and taken from their neighbours"
            )
        volume = self._volume
        if volume is None:
            return said
        if volume.is_truncated:
            said.append(
                "the sample goes on beyond the field: the axis of rotation is less well known, and values near the "
                "border of the volume are biased"
            )
        if not np.isfinite(volume.centre_sigma_px):
            said.append(
                "the axis of rotation could not be found; the middle of the field or the given column is used"
            )
        if volume.n_left_out:
            said.append(
                f"{volume.n_left_out} angles are left out: too few energies, or a part of the sample out of the field"
            )
        if volume.n_completed:
            said.append(
                f"{volume.n_completed} angles do not have the energies of the others; their sums are completed"
            )
        return said

    def _metadata(self, state: RunState, said: list[str]) -> dict[str, Any]:
        scan, volume = self._scan, self._volume
        about = about_scan(
            self._contract, state, {}, said, order=scan.order, interleaved=scan.is_interleaved, **self._about
        )
        for name in ("offsets", "sweeps"):
            about.pop(name, None)
            about["parameters"].pop(name, None)
        voxel_nm = None if scan.pixel_size_nm is None else scan.pixel_size_nm * self._binning
        return about | {
            "technique": "tomography",
            "edge": scan.edge,
            "element": EDGES[scan.edge].element,
            "pixel_size_nm": voxel_nm,
            "voxel_size_nm": voxel_nm,
            "binning": self._binning,
            "voxel_binning": self._shown_binning,
            "n_angles": len(scan.angles_deg),
            "range_deg": scan.range_deg,
            "centre_px": None if volume is None else self._in_pixels(volume.centre_px),
            "centre_sigma_px": None if volume is None else volume.centre_sigma_px * self._shown_binning,
            "references": None if self._references is None else self._references.to_dict(),
        }

    def _in_pixels(self, centre_px: float) -> float:
        """Return a column of the volume as one of the sums."""
        return (centre_px + 0.5) * self._shown_binning - 0.5


def filled(depth: npt.NDArray[Any]) -> tuple[Image, int]:
    """Return a projection whose missing values are those of the nearest pixel that has one, and how many these are.

    A pixel with far more light than all four neighbours was hit by something else than the beam: its value is missing.

    Raises
    ------
    EdgeFittingError
        It has no value at all.
    """
    image = np.asarray(depth, np.float32)
    missing = ~np.isfinite(image) | _struck(image)
    n_missing = int(missing.sum())
    if not n_missing:
        return image, 0
    if n_missing == image.size:
        raise EdgeFittingError("a projection has no pixel with a value")
    nearest = distance_transform_edt(missing, return_distances=False, return_indices=True)
    return image[tuple(nearest)], n_missing


def _struck(image: Image) -> npt.NDArray[np.bool_]:
    """Return the pixels whose optical depth lies below that of each neighbour by more than noise does."""
    struck = np.zeros(image.shape, np.bool_)
    inner = image[1:-1, 1:-1]
    if not inner.size:
        return struck
    with np.errstate(invalid="ignore"):
        lowest = np.minimum(
            np.minimum(image[:-2, 1:-1], image[2:, 1:-1]), np.minimum(image[1:-1, :-2], image[1:-1, 2:])
        )
        below = lowest - inner
        spread = np.abs(np.diff(image, axis=1)[::4])
    finite = spread[np.isfinite(spread)]
    least = max(_STRUCK_SPREADS * float(np.median(finite)), _LEAST_STRUCK) if finite.size else np.inf
    struck[1:-1, 1:-1] = below > least
    return struck


def _of_volume(volume: Volume, binning: int) -> dict[str, Any]:
    values: dict[str, Any] = {"attenuation": volume.attenuation}
    if volume.fit is not None:
        values |= volume.fit.values
        values["status"] = volume.fit.status
    if binning > 1:
        return {name: _repeated(array, binning) for name, array in values.items()}
    return values


def _repeated(array: npt.NDArray[Any], binning: int) -> npt.NDArray[Any]:
    for axis in range(array.ndim):
        array = np.repeat(array, binning, axis=axis)
    return array


def tomography_reducers(contract: RunContract, left_out: LeftOut) -> Sequence[Reducer]:
    """Make the reducers of a rotation series; sums need the optical depth itself."""
    scan = cast(TomographyContract, contract.scan)
    return FrameScreen(), FlatFieldCorrector(scan, fused=False, left_out=left_out, find_spikes=False)


def tomography_technique(settings: TomographySettings | None = None) -> Technique:
    """Return the technique of rotation series.

    Parameters
    ----------
    settings : TomographySettings, optional
        How volumes are reconstructed.

    Raises
    ------
    CallbackError, MissingPackageError
        As `TomographySettings.reconstruction`.
    """
    chosen = settings or TomographySettings()
    chosen.reconstruction()

    def estimator(contract: RunContract, options: EstimatorOptions) -> TomographyEstimator:
        references = options.references_for(contract.scan.edge) or references_of(contract)
        return TomographyEstimator(contract, references, chosen)

    return Technique(
        name="tomography", contract=TomographyContract, reducers=tomography_reducers, estimator=estimator
    )


TOMOGRAPHY = tomography_technique()
"""Rotation series with a camera in transmission."""
