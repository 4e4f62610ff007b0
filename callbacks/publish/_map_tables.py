"""Tables beside the maps: one line per frame, one line per particle."""

from dataclasses import asdict, fields
from typing import Any

import numpy as np

from callbacks.techniques import FrameSummary, SOCUpdate
from edge_fitting import label_particles, particle_statistics

Table = dict[str, list[Any]]

_SMALLEST_PARTICLE_PX = 16


def tables_of(update: SOCUpdate) -> dict[str, Table]:
    """Return the tables of an update by name; particles are told apart once the run is over."""
    tables = {"frames": frame_table(update)}
    if update.final:
        tables["particles"] = particle_table(update)
    return tables


def frame_table(update: SOCUpdate) -> Table:
    """Return one line per sample frame in the maps, in the order they came: the fields of `FrameSummary`."""
    lines = [asdict(frame) for frame in update.frames]
    return {field.name: [line[field.name] for line in lines] for field in fields(FrameSummary)}


def particle_table(update: SOCUpdate) -> Table:
    """Return one line per particle: a connected region of at least 16 fitted pixels.

    Columns are the label (in the order of each particle's first pixel), pixels, centre and diameter of the
    circle of the same area (um where the pixel size is known, else pixels), and of the edge energy, the
    edge jump and, with references, the state of charge: median, spread (1.48 times the median absolute
    deviation), root mean square of the pixels' standard deviations, and the part of the spread that these
    do not explain.
    """
    maps = update.maps
    pixel_size_nm = update.xanes.get("pixel_size_nm")
    pixel_um = None if pixel_size_nm is None else float(pixel_size_nm) / 1000
    unit, pixel = ("px", 1.0) if pixel_um is None else ("um", pixel_um)
    labels = label_particles(maps.has_value, min_pixels=_SMALLEST_PARTICLE_PX)
    energy = particle_statistics(
        maps.edge_energy_ev, labels, sigma=maps.edge_energy_sigma_ev, pixel_size=pixel
    )
    jump = particle_statistics(maps.edge_jump, labels)
    columns: dict[str, Any] = {
        "label": energy.label,
        "n_pixels": energy.n_pixels,
        f"row_{unit}": energy.row * pixel,
        f"column_{unit}": energy.column * pixel,
        f"diameter_{unit}": energy.diameter,
        "edge_energy_median_ev": energy.median,
        "edge_energy_spread_ev": energy.spread,
        "edge_energy_noise_ev": energy.noise,
        "edge_energy_intrinsic_spread_ev": energy.intrinsic_spread,
        "edge_jump_median": jump.median,
    }
    if np.isfinite(maps.soc).any():
        soc = particle_statistics(maps.soc, labels, sigma=maps.soc_sigma)
        columns |= {
            "soc_median": soc.median,
            "soc_spread": soc.spread,
            "soc_noise": soc.noise,
            "soc_intrinsic_spread": soc.intrinsic_spread,
        }
    return {name: np.asarray(values).tolist() for name, values in columns.items()}
