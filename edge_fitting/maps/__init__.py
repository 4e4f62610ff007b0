"""Statistics of maps: masks, particles, clusters, histograms, profiles."""

from ._clusters import Clusters, GroupSpectra, cluster_maps, cluster_spectra, group_spectra
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
from ._masks import mask_maps, reliable_pixels

__all__ = [
    "Clusters",
    "GroupSpectra",
    "MapHistogram",
    "ParticleStatistics",
    "RadialProfile",
    "RecentredMap",
    "cluster_maps",
    "cluster_spectra",
    "edge_distance",
    "group_spectra",
    "label_particles",
    "map_histogram",
    "mask_maps",
    "particle_statistics",
    "radial_profile",
    "recentre_map",
    "relative_depth",
    "reliable_pixels",
]
