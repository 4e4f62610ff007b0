"""The particles of a map: where they are, what each is like, and how they differ."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.results import Field
from edge_fitting import (
    EdgeFittingError,
    EdgeMaps,
    FitStatus,
    heterogeneity,
    particle_statistics,
    particle_zones,
    segment_cracks,
    split_particles,
)

_MAP, _PARTICLE = ("row", "column"), ("particle",)
_SMALLEST_PX = 16
_RIM_PX, _CRACK_PX = 4.0, 2.0
# What a column of a quantity is called, and what it says of the quantity.
_OF_QUANTITY = (
    ("median", "median {}"),
    ("spread", "spread of the {}: 1.48 times the median absolute deviation"),
    ("noise", "root mean square of the pixels' sigma of the {}"),
    ("intrinsic_spread", "the part of the spread of the {} that the pixels' sigma does not explain"),
    ("intrinsic_spread_sigma", "standard deviation of that part; an upper limit where it is 0"),
    ("mean", "mean {}, by the inverse variance of the pixels"),
    ("mean_sigma", "its standard error, neighbouring pixels taken as alike as they are"),
    ("bulk", "mean {} away from rim and cracks"),
    ("bulk_sigma", "its standard error"),
    ("rim_minus_bulk", "mean {} within 4 px of the rim less that of the bulk"),
    ("rim_minus_bulk_sigma", "its standard error"),
    (
        "crack_minus_bulk",
        "mean {} within 2 px of cracks less that of pixels away from them at the same distance from the rim",
    ),
    ("crack_minus_bulk_sigma", "its standard error"),
)


def _particle(column: str, dtype: str, unit: str, meaning: str) -> Field:
    return Field(f"particle_{column}", _PARTICLE, dtype, unit, meaning, "quality", path=f"particles/{column}")


def _of_particles(quantity: str, suffix: str, unit: str, what: str) -> tuple[Field, ...]:
    return tuple(
        _particle(f"{quantity}_{column}{suffix}", "float64", unit, meaning.format(what))
        for column, meaning in _OF_QUANTITY
    )


PARTICLE_FIELDS = (
    Field(
        "particle_label_map",
        _MAP,
        "int32",
        "",
        "number of the particle in the table of particles, 0 for none; those that touch are told apart",
        "quality",
    ),
    Field("crack", _MAP, "uint8", "", "1 where a crack of a particle is seen", "quality"),
    _particle("label", "int64", "", "number, in the order of the first pixels"),
    _particle("n_pixels", "int64", "", "pixels of the particle"),
    _particle("at_border", "int64", "", "1 where the border of the image cuts it"),
    _particle("crack_share", "float64", "", "share of its pixels that are crack"),
    *(
        _particle(f"{what}_{unit}", "float64", {"um": "um", "px": "pixel"}[unit], meaning)
        for unit in ("um", "px")
        for what, meaning in (
            ("row", "centre along the rows"),
            ("column", "centre along the columns"),
            ("diameter", "diameter of the circle of the same area"),
        )
    ),
    *_of_particles("edge_energy", "_ev", "eV", "edge energy"),
    _particle("edge_jump_median", "float64", "optical depth", "median edge jump"),
    *_of_particles("soc", "", "", "state of charge"),
)
"""Arrays and columns of the particles in a result of full-field transmission."""


@dataclass(frozen=True, eq=False)
class Particles:
    """What a map says of its particles.

    Attributes
    ----------
    values : dict
        By the names of `PARTICLE_FIELDS`.
    heterogeneity : dict
        Of state of charge and edge energy: mean, spread within and between particles, each with its error.
    """

    values: dict[str, Any]
    heterogeneity: dict[str, dict[str, float | int]]


def find_particles(maps: EdgeMaps, pixel_size_nm: float | None) -> Particles:
    """Tell particles apart, those that touch too, and find what each is like.

    Parameters
    ----------
    maps : EdgeMaps
        Maps of a fit. A particle is made of fitted pixels and those too thick for light, 16 at least.
    pixel_size_nm : float or None
        Size of a pixel; without it places and sizes are in pixels.
    """
    unit, pixel = ("px", 1.0) if pixel_size_nm is None else ("um", float(pixel_size_nm) / 1000)
    labels = _labels(maps)
    jump = particle_statistics(maps.edge_jump, labels)
    cracks = segment_cracks(_thickness(maps), labels)
    found: dict[str, Any] = {
        "label": jump.label,
        "n_pixels": jump.n_pixels,
        "at_border": jump.at_border,
        f"row_{unit}": jump.row * pixel,
        f"column_{unit}": jump.column * pixel,
        f"diameter_{unit}": jump.diameter * pixel,
        "edge_jump_median": jump.median,
    }
    spreads: dict[str, dict[str, float | int]] = {}
    for quantity, suffix, values, sigma in (
        ("edge_energy", "_ev", maps.edge_energy_ev, maps.edge_energy_sigma_ev),
        ("soc", "", maps.soc, maps.soc_sigma),
    ):
        if quantity == "soc" and not np.isfinite(values).any():
            continue
        statistics = particle_statistics(values, labels, sigma=sigma)
        zones = particle_zones(
            values, labels, cracks=cracks, sigma=sigma, rim_width=_RIM_PX, crack_width=_CRACK_PX
        )
        found["crack_share"] = zones.crack_share
        for column, _ in _OF_QUANTITY:
            found[f"{quantity}_{column}{suffix}"] = getattr(
                statistics if hasattr(statistics, column) else zones, column
            )
        try:
            spreads[f"{quantity}{suffix}"] = asdict(heterogeneity(statistics))
        except EdgeFittingError:
            continue  # no particle of this map has a value with an error
    columns = {f"particle_{name}": values for name, values in found.items()}
    return Particles({"particle_label_map": labels, "crack": cracks, **columns}, spreads)


def _labels(maps: EdgeMaps) -> npt.NDArray[np.int32]:
    # Too thick for light in its middle, a particle is one still.
    mask = maps.has_value | np.isin(maps.status, (FitStatus.SATURATED, FitStatus.STRAY_LIGHT))
    if not maps.has_value.any():
        return np.zeros(maps.shape, np.int32)
    return split_particles(mask, min_diameter=2 * np.sqrt(_SMALLEST_PX / np.pi) - 1e-9)


def _thickness(maps: EdgeMaps) -> npt.NDArray[np.float32]:
    """Return the edge jump, 0 where there is no edge."""
    empty = maps.status == FitStatus.NO_EDGE
    return np.where(empty & ~np.isfinite(maps.edge_jump), np.float32(0.0), maps.edge_jump)
