"""How maps look in Tiled (spec ``NimcoSOC``): names, units and metadata. See docs/reference/nimco-soc.md."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from callbacks.techniques import SOCUpdate
from edge_fitting import EDGES, FitStatus

SPEC_NAME = "NimcoSOC"
SPEC_VERSION = "1"
DIMS = ("row", "column")

ARRAYS: Mapping[str, tuple[str, str]] = {
    "soc": ("", "state of charge on the scale of the references"),
    "soc_sigma": ("", "standard deviation of the state of charge"),
    "edge_energy_ev": ("eV", "edge energy by the definition in the metadata"),
    "edge_energy_sigma_ev": ("eV", "standard deviation of the edge energy"),
    "edge_jump": ("optical depth", "height of the edge: thickness times concentration"),
    "edge_jump_sigma": ("optical depth", "standard deviation of the height of the edge, of a jump map"),
    "goodness": ("", "squared residual over squared data; smaller is better"),
    "status": ("", "why a pixel has a value or none: status_legend in the metadata"),
}
"""Arrays of a map container: name, (unit, meaning)."""

STATE_KEYS = (
    "n_frames",
    "frames_expected",
    "final",
    "partial",
    "exit_status",
    "warnings",
    "pixels",
    "median_soc_sigma",
    "time",
    "mean_spectrum",
    "history",
)
"""Keys of the metadata that change from update to update."""

_MOST_HISTORY = 500
_SAMPLED_PIXELS = 65_536
_PACKAGES = ("nimco", "bluesky", "bluesky-tiled-plugins", "numba", "numpy", "tiled")


def map_path(update: SOCUpdate) -> str:
    """Path of the maps of a run below the root of the server."""
    return f"maps/{update.raw_uid}/{update.edge}"


def map_metadata(update: SOCUpdate) -> dict[str, Any]:
    """Return everything a reader of the maps needs to know, as plain JSON."""
    edge = EDGES[update.edge]
    maps = update.maps
    return {
        "schema_version": int(SPEC_VERSION),
        "raw_uid": update.raw_uid,
        "raw_path": f"raw/{update.raw_uid}",
        "raw_uids": list(update.raw_uids),
        "scan_group": update.scan_group,
        "edge": update.edge,
        "element": edge.element,
        "definition": maps.definition,
        "method": maps.method,
        "calibration": {
            "foil_inflection_ev": edge.foil_inflection_ev,
            "axis": "energies are the axis' own readbacks, in eV",
        },
        "units": {name: unit for name, (unit, _) in ARRAYS.items()},
        "pixel_size_nm": update.xanes.get("pixel_size_nm"),
        "references": None if update.references is None else update.references.to_dict(),
        "parameters": {
            "method": maps.method,
            "energies_ev": [float(value) for value in update.xanes["energies_ev"]],
            "exposure_s": [float(value) for value in update.xanes["exposure_s"]],
            "repeats": update.xanes.get("repeats", 1),
        },
        "status_legend": {str(int(code)): code.name for code in FitStatus},
        "versions": software_versions(),
        **map_state(update),
    }


def map_state(update: SOCUpdate) -> dict[str, Any]:
    """Return the part of the metadata that changes from update to update."""
    return {
        "n_frames": update.frames_done,
        "frames_expected": update.frames_expected,
        "final": update.final,
        "partial": not (update.final and update.complete),
        "exit_status": update.exit_status,
        "warnings": list(update.warnings),
        "pixels": _pixels(update.maps.status),
        "median_soc_sigma": _finite_median(update.maps.soc_sigma, exact=update.final),
        "time": update.time_s,
        "mean_spectrum": {
            "energy_ev": update.mean_energy_ev.tolist(),
            "optical_depth": update.mean_od.tolist(),
        },
        "history": _thinned(update.history).tolist(),
    }


def software_versions() -> dict[str, str]:
    """Return the versions of what made the maps."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _pixels(status: np.ndarray) -> dict[str, int]:
    """Count the pixels of each status, in steps that let other threads run.

    Those that do not occur are written too: Tiled merges metadata, and the count of before would stay.
    """
    return {code.name: int(np.count_nonzero(status == code)) for code in FitStatus}


def _thinned(history: np.ndarray) -> np.ndarray:
    """Return at most so many rows, the last among them, that the metadata stays small."""
    step = -(-len(history) // _MOST_HISTORY) or 1
    return history[::-1][::step][::-1]


def _finite_median(values: np.ndarray, *, exact: bool) -> float | None:
    """Return the median of what is finite; of some of the pixels while the scan runs."""
    step = 1 if exact else max(1, values.size // _SAMPLED_PIXELS)
    sampled = values.reshape(-1)[::step]
    finite = sampled[np.isfinite(sampled)]
    return float(np.median(finite)) if finite.size else None
