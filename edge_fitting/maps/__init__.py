"""Statistics of maps: masks, particles, clusters, histograms, profiles."""

from ._clusters import Clusters, GroupSpectra, cluster_maps, cluster_spectra, group_spectra
from ._correlation import neighbour_correlation, variance_of_sum
from ._cracks import segment_cracks
from ._heterogeneity import Heterogeneity, heterogeneity, mean_over_particles
from ._histogram import MapHistogram, RecentredMap, map_histogram, recentre_map
from ._intrinsic_spread import intrinsic_variance
from ._masks import mask_maps, reliable_pixels
from ._particles import ParticleStatistics, label_particles, particle_statistics
from ._pooling import MapField, PooledMaps, pool_maps
from ._rim import RadialProfile, edge_distance, radial_profile, relative_depth
from ._robust import median_and_spread
from ._split import split_particles
from ._zones import ParticleZones, particle_zones

__all__ = [
    "Clusters",
    "GroupSpectra",
    "Heterogeneity",
    "MapField",
    "MapHistogram",
    "ParticleStatistics",
    "ParticleZones",
    "PooledMaps",
    "RadialProfile",
    "RecentredMap",
    "cluster_maps",
    "cluster_spectra",
    "edge_distance",
    "group_spectra",
    "heterogeneity",
    "intrinsic_variance",
    "label_particles",
    "map_histogram",
    "mask_maps",
    "mean_over_particles",
    "median_and_spread",
    "neighbour_correlation",
    "particle_statistics",
    "particle_zones",
    "pool_maps",
    "radial_profile",
    "recentre_map",
    "relative_depth",
    "reliable_pixels",
    "segment_cracks",
    "split_particles",
    "variance_of_sum",
]
