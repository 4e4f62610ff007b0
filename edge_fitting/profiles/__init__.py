"""Concentration against the distance from a particle's surface: diffusion or a core and a shell."""

from ._compare import ProfileComparison, compare_profiles
from ._core_shell import CoreShellFit, fit_core_shell
from ._diffusion import DiffusionFit, diffusion_profile, fit_diffusion
from ._distance_profile import DistanceProfile, distance_profile
from ._profile import ParticleShape, Profile

__all__ = [
    "CoreShellFit",
    "DiffusionFit",
    "DistanceProfile",
    "ParticleShape",
    "Profile",
    "ProfileComparison",
    "compare_profiles",
    "diffusion_profile",
    "distance_profile",
    "fit_core_shell",
    "fit_diffusion",
]
