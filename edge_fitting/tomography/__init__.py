"""Volumes from rotation series: sums of projections, reconstruction, and the series fit of every voxel."""

from ._axis import RotationAxis, find_axis
from ._filtered_back_projection import FilteredBackProjection, angle_weights
from ._interleaved import InterleavedProjections
from ._projection_sums import EvenSums, ProjectionSums
from ._reconstruct import (
    CleanUp,
    ReconstructionSettings,
    VolumeFit,
    reconstruct,
    reconstruct_depth,
    reconstruct_interleaved,
)
from ._sum_functions import SumFunctions
from ._sums_fit import SumsFit, fit_sums
from ._voxel_noise import FILTERS, voxel_sigma

__all__ = [
    "FILTERS",
    "CleanUp",
    "EvenSums",
    "FilteredBackProjection",
    "InterleavedProjections",
    "ProjectionSums",
    "ReconstructionSettings",
    "RotationAxis",
    "SumFunctions",
    "SumsFit",
    "VolumeFit",
    "angle_weights",
    "find_axis",
    "fit_sums",
    "reconstruct",
    "reconstruct_depth",
    "reconstruct_interleaved",
    "voxel_sigma",
]
