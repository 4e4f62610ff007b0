"""Volumes and rotation series from and to files."""

from ._projection_files import open_projections
from ._projections import Projection, Projections, RotationSeries
from ._volume import Volume
from ._volume_files import read_volume, write_volume

__all__ = [
    "Projection",
    "Projections",
    "RotationSeries",
    "Volume",
    "open_projections",
    "read_volume",
    "write_volume",
]
