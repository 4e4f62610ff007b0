"""A volume as a result: its particles with cracks and damage, state of charge in their zones, damage by place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.results import Field, ResultSchema
from edge_fitting import (
    DAMAGE_LIMITS,
    EdgeFittingError,
    VolumeCracks,
    VolumeSegmentation,
    VolumeZones,
    damage_classes,
    damage_profile,
    segment_volume_cracks,
    split_volume,
    volume_zones,
)
from edge_fitting.volumes import check_limits

_VOXELS, _PARTICLE, _DEPTH, _BIN = ("plane", "row", "column"), ("particle",), ("depth",), ("bin",)
AXES = ("plane", "row", "column")
"""Directions of a volume, in the order of its dimensions."""
_BOTH = ("particle", "depth")
_SURFACE_VOXELS, _CRACK_VOXELS, _DEPTH_VOXELS = 3.0, 2.0, 2.0
_BINS = 5


def _particle(column: str, unit: str, meaning: str, dtype: str = "float64") -> Field:
    return Field(f"particle_{column}", _PARTICLE, dtype, unit, meaning, "quality", path=f"particles/{column}")


def _table(
    group: str, dims: tuple[str, ...], column: str, unit: str, meaning: str, dtype: str = "float64"
) -> Field:
    return Field(f"{dims[0]}_{column}", dims, dtype, unit, meaning, "quality", path=f"{group}/{column}")


VOLUME_SCHEMA = ResultSchema(
    "volume_particles",
    "1",
    (
        Field("density", _VOXELS, "float32", "", "density as it was given"),
        Field("soc", _VOXELS, "float32", "", "state of charge as it was given"),
        Field("soc_sigma", _VOXELS, "float32", "", "its standard deviation", "sigma", "soc"),
        Field(
            "particle_label_map",
            _VOXELS,
            "int32",
            "",
            "particle of the voxel, with cracks; 0 for none",
            "quality",
        ),
        Field("crack", _VOXELS, "uint8", "", "0 whole, 1 wide crack or pore, 2 fine crack", "quality"),
        _particle("label", "", "number of the particle", "int64"),
        _particle("n_voxels", "", "its voxels, cracks included", "int64"),
        _particle("at_border", "", "1 where the border of the volume or of the mask cuts it", "int64"),
        *(_particle(f"{axis}_um", "um", f"centre along the {axis}s") for axis in AXES),
        _particle("diameter_um", "um", "diameter of the ball of the same volume"),
        _particle("volume_um3", "um^3", "volume, cracks included"),
        _particle("density", "", "mean density of its material"),
        _particle("wide_share", "", "share of it that is wide crack or pore"),
        _particle("wide_share_sigma", "", "its uncertainty from threshold and mouths"),
        _particle("fine_share", "", "share of it that fine cracks take, by the density that they lack"),
        _particle("fine_share_sigma", "", "its uncertainty from limits and reach"),
        _particle("crack_share", "", "share of it that is crack or pore"),
        _particle("crack_share_sigma", "", "its uncertainty"),
        _particle("wide_thickness_um", "um", "mean thickness of its wide cracks"),
        _particle("fine_thickness_um", "um", "mean thickness of its fine cracks, about"),
        _particle("damage", "", "0 least, 1 mild, 2 severe, by the crack share", "int64"),
        _particle("damage_sure", "", "1 where a crack share one sigma off is in the same class", "int64"),
        _particle("n_values", "", "voxels with a state of charge", "int64"),
        _particle("soc_mean", "", "weighted mean state of charge"),
        _particle("soc_mean_sigma", "", "its standard error, neighbouring voxels taken as alike as they are"),
        _particle("soc_bulk", "", "the same away from surface and cracks"),
        _particle("soc_bulk_sigma", "", "its standard error"),
        _particle("soc_surface_minus_bulk", "", "state of charge near the surface less that of the bulk"),
        _particle("soc_surface_minus_bulk_sigma", "", "its standard error"),
        _particle(
            "soc_crack_minus_bulk", "", "state of charge at cracks less that away from them at the same depth"
        ),
        _particle("soc_crack_minus_bulk_sigma", "", "its standard error"),
        _table("depths", _DEPTH, "um", "um", "middle of the bin of depth below the surface"),
        _table(
            "depths", _DEPTH, "soc_less_bulk", "", "mean over particles of SOC less bulk, away from cracks"
        ),
        _table(
            "depths", _DEPTH, "soc_less_bulk_sigma", "", "its error, from theirs and how much they differ"
        ),
        _table("depths", _DEPTH, "n_particles", "", "particles that reach so deep", "int64"),
        Field(
            "soc_by_depth",
            ("particle", "depth"),
            "float64",
            "",
            "the same of each particle",
            "quality",
            storage="array",
        ),
        Field(
            "soc_by_depth_sigma",
            ("particle", "depth"),
            "float64",
            "",
            "its standard error",
            "quality",
            storage="array",
        ),
        _table("damage", _BIN, "axis", "", "direction of the bin: 0 planes, 1 rows, 2 columns", "int64"),
        _table("damage", _BIN, "low_um", "um", "where it begins"),
        _table("damage", _BIN, "high_um", "um", "where it ends"),
        *(
            _table("damage", _BIN, f"n_{what}", "", f"{what} damaged particles in it", "int64")
            for what in ("severe", "mild", "least")
        ),
        _table("damage", _BIN, "crack_share", "", "mean crack share in it, by volume"),
        _table("damage", _BIN, "crack_share_sigma", "", "its standard error, from how much particles differ"),
    ),
)
"""What the analysis of a volume holds."""


def analyse_volume(
    density: npt.ArrayLike,
    *,
    voxel_size_nm: float,
    soc: npt.ArrayLike | None = None,
    soc_sigma: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
    threshold: float | None = None,
    min_diameter_um: float | None = None,
    widest_crack_um: float | None = None,
    damage_limits: Sequence[float] = DAMAGE_LIMITS,
    source: str = "",
) -> xr.Dataset:
    """Find particles, cracks and damage of a volume, and state of charge at cracks, at surfaces and by depth.

    Parameters
    ----------
    density : array_like, shape (planes, rows, columns)
        Density, absorption or edge jump: material is above, void below.
    voxel_size_nm : float
        Edge of a voxel, which is a cube.
    soc, soc_sigma : array_like, optional
        State of charge and its standard deviation.
    mask : array_like of bool, optional
        Where the volume can be used, such as the reconstructed cylinder.
    threshold : float, optional
        Density from which on there is material; by default found.
    min_diameter_um, widest_crack_um : float, optional
        Smallest particle, and widest crack that opens to a surface; by default eight voxels each.
    damage_limits : (float, float)
        Crack share from which on a particle is mildly, and severely damaged.
    source : str
        Where the volume is from.

    Returns
    -------
    xarray.Dataset
        Of `VOLUME_SCHEMA`.

    Raises
    ------
    EdgeFittingError
        It has no particles, or something of it makes no sense.
    """
    limits = check_limits(damage_limits)
    if not np.isfinite(voxel_size_nm) or voxel_size_nm <= 0:
        raise EdgeFittingError(f"the voxel size must be a positive number of nm, not {voxel_size_nm:g}.")
    voxel_um = float(voxel_size_nm) / 1000.0
    particles = split_volume(
        density,
        mask=mask,
        threshold=threshold,
        min_diameter=min_diameter_um or 8.0 * voxel_um,
        widest_crack=widest_crack_um or 8.0 * voxel_um,
        voxel_size=voxel_um,
    )
    cracks = segment_volume_cracks(particles)
    values: dict[str, Any] = {
        "density": density,
        "particle_label_map": particles.labels,
        "crack": cracks.kind,
        **_of_particles(particles, cracks, limits),
    }
    widths = {
        "surface_width": _SURFACE_VOXELS * voxel_um,
        "crack_width": _CRACK_VOXELS * voxel_um,
        "depth_step": _DEPTH_VOXELS * voxel_um,
    }
    if soc is not None:
        values |= {"soc": soc} | ({} if soc_sigma is None else {"soc_sigma": soc_sigma})
        values |= _of_zones(volume_zones(soc, particles, cracks, sigma=soc_sigma, **widths))
    by_place, slopes = _by_place(values, particles)
    levels = particles.levels
    about = {
        "source": source,
        "voxel_size_nm": float(voxel_size_nm),
        "threshold": levels.threshold,
        "void_level": levels.void,
        "solid_level": levels.solid,
        "noise": levels.noise,
        "smoothing_px": levels.smoothing_px,
        "damage_limits": list(limits),
        "widths_um": widths,
        "crack_share_slope_per_um": slopes,
    }
    return VOLUME_SCHEMA.make(values | by_place, about, signal="density" if soc is None else "soc")


def _of_particles(
    particles: VolumeSegmentation, cracks: VolumeCracks, limits: tuple[float, float]
) -> dict[str, Any]:
    classes, sure = damage_classes(cracks.crack_share, cracks.crack_share_sigma, limits)
    voxel_um = particles.voxel_size
    rows = []
    known = np.isfinite(particles.density)
    for label, box in particles.boxes():
        inside = particles.labels[box] == label
        centre = [axis.mean() + side.start for axis, side in zip(np.nonzero(inside), box, strict=True)]
        material = particles.density[box][inside & particles.solid[box]]
        rows.append((*centre, material.mean(dtype=np.float64), _is_cut(inside, box, known)))
    plane, row, column, density, at_border = np.array(rows, np.float64).reshape(-1, 5).T
    volume_um3 = cracks.n_voxels * voxel_um**3
    found = {
        "label": cracks.label,
        "n_voxels": cracks.n_voxels,
        "at_border": at_border,
        "plane_um": (plane + 0.5) * voxel_um,
        "row_um": (row + 0.5) * voxel_um,
        "column_um": (column + 0.5) * voxel_um,
        "diameter_um": np.cbrt(6.0 / np.pi * volume_um3),
        "volume_um3": volume_um3,
        "density": density,
        **{
            name: getattr(cracks, name)
            for kind in ("wide", "fine", "crack")
            for name in (f"{kind}_share", f"{kind}_share_sigma")
        },
        "wide_thickness_um": cracks.wide_thickness,
        "fine_thickness_um": cracks.fine_thickness,
        "damage": classes,
        "damage_sure": sure,
    }
    return {f"particle_{name}": held for name, held in found.items()}


def _is_cut(inside: npt.NDArray[np.bool_], box: tuple[slice, ...], known: npt.NDArray[np.bool_]) -> bool:
    """Return whether a particle ends where the volume does, or what is known of it."""
    if any(side.start == 0 or side.stop == size for side, size in zip(box, known.shape, strict=True)):
        return True
    from scipy import ndimage

    around = tuple(slice(side.start - 1, side.stop + 1) for side in box)
    unknown = ~known[around]
    return bool(unknown.any() and (ndimage.binary_dilation(np.pad(inside, 1)) & unknown).any())


def _of_zones(zones: VolumeZones) -> dict[str, Any]:
    middle = 0.5 * (zones.depth_edges[:-1] + zones.depth_edges[1:])
    columns = ("mean", "bulk", "surface_minus_bulk", "crack_minus_bulk")
    return {
        "particle_n_values": zones.n_values,
        **{
            f"particle_soc_{name}{suffix}": getattr(zones, f"{name}{suffix}")
            for name in columns
            for suffix in ("", "_sigma")
        },
        "depth_um": middle,
        "depth_soc_less_bulk": zones.pooled,
        "depth_soc_less_bulk_sigma": zones.pooled_sigma,
        "depth_n_particles": np.count_nonzero(np.isfinite(zones.profile - zones.bulk[:, None]), axis=0),
        "soc_by_depth": zones.profile,
        "soc_by_depth_sigma": zones.profile_sigma,
    }


def _by_place(
    values: Mapping[str, Any], particles: VolumeSegmentation
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Return damage in bins along each direction, and its slopes."""
    columns: dict[str, list[Any]] = {}
    slopes = {}
    for number, (axis, size) in enumerate(zip(AXES, particles.labels.shape, strict=True)):
        edges = np.linspace(0.0, size * particles.voxel_size, _BINS + 1)
        held = damage_profile(
            values[f"particle_{axis}_um"],
            values["particle_crack_share"],
            values["particle_damage"],
            values["particle_volume_um3"],
            edges=edges,
        )
        slopes[axis] = {"slope": held.slope, "sigma": held.slope_sigma}
        own: dict[str, npt.ArrayLike] = {
            "axis": [number] * _BINS,
            "low_um": edges[:-1],
            "high_um": edges[1:],
            "n_severe": held.n_severe,
            "n_mild": held.n_mild,
            "n_least": held.n_least,
            "crack_share": held.crack_share,
            "crack_share_sigma": held.crack_share_sigma,
        }
        for name, column in own.items():
            columns.setdefault(f"bin_{name}", []).extend(np.asarray(column))
    return dict(columns), slopes
