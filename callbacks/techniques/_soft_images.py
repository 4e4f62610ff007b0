"""From images at a soft edge to maps: registration, axis, linear combination, thickness, and the result."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from edge_fitting import EDGES, EdgeFittingError, FitStatus, register_stack, soft_edge
from edge_fitting.soft import (
    Component,
    SoftEdge,
    SoftMaps,
    edge_step_per_nm,
    fit_components,
    fit_soft_stack,
)
from scan_contract import MissingPackageError, RunContract, SoftImageContract

from ._point_sweeps import about_scan
from ._soft_images_result import SOFT_IMAGES_SCHEMA
from ._technique import EstimatorOptions, RunState

Array = npt.NDArray[np.float64]
Stack = npt.NDArray[np.float32]

# An axis that is off by less than this many standard deviations stays as it is.
_SIGNIFICANT = 3.0
_LEAST_SHIFT_EV = 0.02
# Fewer images show no drift.
_FEWEST_REGISTERED = 6
_STRONG = 0.3


@dataclass
class Images:
    """Images as the fit takes them.

    Attributes
    ----------
    energy_ev : ndarray, shape (n,)
        Energies, increasing.
    values, variance : ndarray, shape (n, rows, cols)
        Optical depth or yield, and its variance; NaN for what is missing.
    thick : ndarray of bool, shape (rows, cols), optional
        Pixels too thick to be believed.
    fields : dict
        Further fields of the result.
    said : list of str
        Warnings.
    whole : ndarray of bool, shape (n,)
        Images that are complete.
    """

    energy_ev: Array
    values: Stack
    variance: Stack
    whole: npt.NDArray[np.bool_]
    thick: npt.NDArray[np.bool_] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


class SoftImageFit:
    """Makes results of images.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    options : EstimatorOptions
        Whether images are registered.
    material : (str, float), optional
        Formula and density.
    words : str
        What a value of the images is.
    """

    def __init__(
        self,
        contract: RunContract,
        options: EstimatorOptions,
        material: tuple[str, float] | None,
        words: str,
    ) -> None:
        self._contract, self._options, self._words = contract, options, words
        self._scan = cast(SoftImageContract, contract.scan)
        self._edge: SoftEdge = soft_edge(contract.scan.edge)
        self._components = components_of(self._scan)
        self._material = material
        self._shifts: tuple[bytes, npt.NDArray[np.bool_], Any] | None = None

    def dataset(self, state: RunState, images: Images, image: Stack, **fields: Any) -> xr.Dataset:
        """Return the result; the images as far as they are, where no map can be made of them."""
        said = [*state.warnings, *images.said]
        values: dict[str, Any] = {"image": image, "energy_ev": images.energy_ev, **images.fields, **fields}
        about: dict[str, Any] = {}
        signal = "image"
        maps: SoftMaps | None = None
        if images.energy_ev.size:
            images, values = self._registered(state, images, values, said)
            maps, shift = self._fit(images, said)
            about["axis_offset_ev"] = shift[0]
            about["axis_offset_sigma_ev"] = shift[1]
        if maps is not None:
            signal = "valence"
            values |= self._of_maps(maps, images, said)
            counts = np.bincount(maps.status.reshape(-1), minlength=len(FitStatus))
            about["pixels"] = {status.name: int(counts[status]) for status in FitStatus if counts[status]}
            about["misfit"] = maps.misfit
        return SOFT_IMAGES_SCHEMA.make(values, self._metadata(state, about, said), signal=signal)

    def _registered(
        self, state: RunState, images: Images, values: dict[str, Any], said: list[str]
    ) -> tuple[Images, dict[str, Any]]:
        """Move the images back by the drift of the sample, found on those that are complete."""
        n = images.energy_ev.size
        if self._options.register == "off" or images.whole.sum() < _FEWEST_REGISTERED or not state.final:
            return images, values
        stack = np.where(images.whole[:, None, None], images.values, np.nan)[images.whole]
        found = register_stack(images.energy_ev[images.whole], stack, edge=self._hard_edge())
        said += [f"registration: {words}" for words in found.warnings if found.drift_found]
        if not found.drift_found and self._options.register != "on":
            return images, values
        moved = images.values.copy()
        moved[images.whole] = found.optical_depth
        shifts = np.full((n, 2), np.nan)
        shifts[images.whole] = found.shifts_px
        values = {**values, "shift_row_px": shifts[:, 0], "shift_column_px": shifts[:, 1]}
        return replace(images, values=moved), values

    def _hard_edge(self) -> Any:
        name = self._edge.name
        return (
            EDGES[name]
            if name in EDGES
            else replace(
                EDGES["Ni_L3"], name=name, element=self._edge.element, energy_ev=self._edge.energy_ev
            )
        )

    def _fit(self, images: Images, said: list[str]) -> tuple[SoftMaps | None, tuple[float, float]]:
        none = 0.0, math.nan
        if not self._components:
            said.append("there are no references of known state: images only, no maps of the state")
            return None, none
        if np.unique(images.energy_ev).size == 1:
            said.append(
                f"there is one energy, {images.energy_ev[0]:.1f} eV: an image and no map of the state, which needs "
                f"{len(self._components) + 3} energies or more"
            )
            return None, none
        try:
            first = self._maps(images, 0.0)
            shift = self._shift(images, first, said)
            maps = first if shift[0] == 0.0 else self._maps(images, shift[0])
        except EdgeFittingError as error:
            said.append(str(error).rstrip("."))
            return None, none
        if not (maps.status == FitStatus.OK).any():
            few = (maps.status == FitStatus.TOO_FEW_FRAMES).any()
            if not few:
                said.append(
                    f"no pixel shows the {self._edge.name} edge: there is no white line that stands out of noise"
                )
        if left := int((~maps.used).sum()):
            said.append(
                f"the references do not cover {left} of {maps.used.size} energies: these are not in the fit"
            )
        return maps, shift

    def _maps(self, images: Images, shift_ev: float) -> SoftMaps:
        return fit_soft_stack(
            images.energy_ev, images.values, images.variance, self._components, self._edge, shift_ev=shift_ev,
            thick=images.thick,
        )  # fmt: skip

    def _shift(self, images: Images, maps: SoftMaps, said: list[str]) -> tuple[float, float]:
        """Return by how much the axis of the mean spectrum is off the references, where that is significant."""
        mean = _mean_spectrum(images, maps)
        if mean is None:
            return 0.0, math.nan
        good = np.isfinite(mean)
        try:
            fit = fit_components(
                images.energy_ev[good], mean[good], 1.0, self._components, self._edge, saturation=0.0
            )
        except EdgeFittingError:
            return 0.0, math.nan
        said += [words for words in fit.warnings if "axis" in words]
        if abs(fit.shift_ev) < max(_SIGNIFICANT * fit.shift_sigma_ev, _LEAST_SHIFT_EV):
            return 0.0, fit.shift_sigma_ev
        return fit.shift_ev, fit.shift_sigma_ev

    def _of_maps(self, maps: SoftMaps, images: Images, said: list[str]) -> dict[str, Any]:
        out: dict[str, Any] = {
            "valence": maps.state,
            "valence_sigma": maps.state_sigma,
            "edge_jump": maps.edge_jump,
            "edge_jump_sigma": maps.edge_jump_sigma,
            "fraction": maps.fraction,
            "fraction_sigma": maps.fraction_sigma,
            "status": maps.status,
            "goodness": maps.goodness,
        }
        if self._material is not None:
            try:
                step = edge_step_per_nm(self._edge, *self._material)
            except (EdgeFittingError, MissingPackageError) as error:
                said.append(f"no thickness: {str(error).rstrip('.')}")
            else:
                out |= {
                    "thickness_nm": maps.edge_jump / step,
                    "thickness_nm_sigma": maps.edge_jump_sigma / step,
                }
        mean = _mean_spectrum(images, maps)
        if mean is not None:
            out["mean_optical_depth"] = mean
        return out

    def _metadata(self, state: RunState, about: dict[str, Any], said: list[str]) -> dict[str, Any]:
        scan, edge = self._scan, self._edge
        return {
            **about_scan(self._contract, state, {}, said),
            "technique": scan.technique,
            "edges": [edge.name],
            "edge": edge.name,
            "element": edge.element,
            "channels": dict(scan.channels),
            "region": scan.region,
            "pixel_size_nm": scan.pixel_size_nm,
            "component_names": [one.name for one in self._components],
            "component_valences": [None if math.isnan(v := one.valence) else v for one in self._components],
            "value": self._words,
            **about,
        }


def components_of(scan: SoftImageContract) -> list[Component]:
    """Return the references of a contract as the fit takes them."""
    return [
        Component(
            one.name,
            np.asarray(one.energy_ev),
            np.asarray(one.normalized_mu),
            math.nan if one.valence is None else one.valence,
        )
        for one in scan.components
    ]


def _mean_spectrum(images: Images, maps: SoftMaps) -> Array | None:
    """Return the mean over the pixels with much of the edge; None where there is none."""
    ok = (maps.status == FitStatus.OK) | (maps.status == FitStatus.NOT_FOUND)
    if not ok.any():
        return None
    high = float(np.nanpercentile(maps.edge_jump[ok], 90))
    pixels = ok & (maps.edge_jump > _STRONG * high)
    if not pixels.any():
        return None
    chosen = images.values[:, pixels]
    count = np.isfinite(chosen).sum(axis=1)
    total = np.nansum(chosen, axis=1, dtype=np.float64)
    # Of an image that is not complete the mean would be one of other pixels.
    out: Array = np.where(count > 0.98 * pixels.sum(), total / np.maximum(count, 1), np.nan)
    return out if np.isfinite(out).any() else None


def ascending(energy_ev: Sequence[float]) -> npt.NDArray[np.intp]:
    """Return the order of increasing energy."""
    order: npt.NDArray[np.intp] = np.argsort(np.asarray(energy_ev, np.float64), kind="stable")
    return order
