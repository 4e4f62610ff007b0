"""Absorption-edge fitting of every pixel of an energy scan: numpy and numba only."""

from ._calibration import AnchorCalibration, CalibratedMap
from ._choose_energies import (
    ChosenEnergies,
    EnergyChooser,
    calibration_bias,
    choose_energies,
    expected_sigma,
    optical_depth_sigma,
)
from ._clusters import (
    Clusters,
    GroupSpectra,
    cluster_maps,
    cluster_spectra,
    group_spectra,
)
from ._edges import EDGES, Edge, edge_name, edge_names, keyed_by_edge
from ._energy_order import informative_order
from ._errors import EdgeFittingError
from ._fitter import EdgeFitter, fit_stack
from ._foil import FoilCalibration, calibrate_foil
from ._lcf import LinearCombinationMaps, fit_lcf
from ._map_statistics import (
    MapHistogram,
    ParticleStatistics,
    RadialProfile,
    RecentredMap,
    edge_distance,
    label_particles,
    map_histogram,
    particle_statistics,
    radial_profile,
    recentre_map,
    relative_depth,
)
from ._maps import EdgeMaps, FitStatus
from ._masks import mask_maps, reliable_pixels
from ._normalization import NormalizedStack, normalize
from ._reference_series import ReferenceSeries
from ._text_table import TextTable, Title, read_text_table
from ._warm_up import warm_up

__all__ = [
    "EDGES",
    "AnchorCalibration",
    "CalibratedMap",
    "ChosenEnergies",
    "Clusters",
    "Edge",
    "EdgeFitter",
    "EdgeFittingError",
    "EdgeMaps",
    "EnergyChooser",
    "FitStatus",
    "FoilCalibration",
    "GroupSpectra",
    "LinearCombinationMaps",
    "MapHistogram",
    "NormalizedStack",
    "ParticleStatistics",
    "RadialProfile",
    "RecentredMap",
    "ReferenceSeries",
    "TextTable",
    "Title",
    "calibrate_foil",
    "calibration_bias",
    "choose_energies",
    "cluster_maps",
    "cluster_spectra",
    "edge_distance",
    "edge_name",
    "edge_names",
    "expected_sigma",
    "fit_lcf",
    "fit_stack",
    "group_spectra",
    "informative_order",
    "keyed_by_edge",
    "label_particles",
    "map_histogram",
    "mask_maps",
    "normalize",
    "optical_depth_sigma",
    "particle_statistics",
    "radial_profile",
    "read_text_table",
    "recentre_map",
    "relative_depth",
    "reliable_pixels",
    "warm_up",
]
