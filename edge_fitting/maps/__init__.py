"""Statistics of maps: masks, particles, clusters, histograms, profiles."""

from ._clusters import Clusters, GroupSpectra, cluster_maps, cluster_spectra, group_spectra
from ._histogram import MapHistogram, RecentredMap, map_histogram, recentre_map
from ._masks import mask_maps, reliable_pixels
from ._particles import ParticleStatistics, label_particles, particle_statistics
from ._rim import RadialProfile, edge_distance, radial_profile, relative_depth

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
