"""Which of the two explains profiles: diffusion in one phase, or a core and a shell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import chi2 as chi2_distribution

from ._core_shell import CoreShellFit, fit_core_shell
from ._diffusion import DiffusionFit, fit_diffusion
from ._profile import Profile

__all__ = ["ProfileComparison", "compare_profiles"]

# Differences of AIC below this tell two models not apart (Burnham and Anderson, 2002).
_LEAST_DIFFERENCE = 2.0
_MISFIT = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class ProfileComparison:
    """Both fits of the same profiles.

    Attributes
    ----------
    diffusion : DiffusionFit
        One D and start for all particles, a surface of each.
    core_shell : tuple of CoreShellFit
        One for each particle.
    aic_difference : float
        AIC of cores and shells minus that of diffusion: above 0 for diffusion.
    better : {"diffusion", "core_shell", ""}
        The model of the lower AIC; empty where they differ by less than 2.
    warnings : tuple of str
        What to know before either is believed.
    """

    diffusion: DiffusionFit
    core_shell: tuple[CoreShellFit, ...]
    aic_difference: float
    better: Literal["diffusion", "core_shell", ""]
    warnings: tuple[str, ...]


def compare_profiles(
    profiles: Profile | Sequence[Profile], *, interface_nm: float = 0.0
) -> ProfileComparison:
    """Fit diffusion and a core with a shell to the same profiles, and compare them.

    Parameters
    ----------
    profiles : Profile or sequence of Profile
        One particle or many.
    interface_nm : float
        Standard deviation of what smears the interface of core and shell.

    Raises
    ------
    EdgeFittingError
        As of `fit_diffusion` and `fit_core_shell`.
    """
    profiles = [profiles] if isinstance(profiles, Profile) else list(profiles)
    diffusion = fit_diffusion(profiles)
    shells = tuple(fit_core_shell(one, interface_nm=interface_nm) for one in profiles)
    difference = sum(one.aic for one in shells) - diffusion.aic
    warnings = [words for words in (diffusion.reason, *(one.reason for one in shells)) if words]
    better: Literal["diffusion", "core_shell", ""] = ""
    if math.isfinite(difference) and abs(difference) >= _LEAST_DIFFERENCE:
        better = "diffusion" if difference > 0 else "core_shell"
        chi2, free = (
            (diffusion.chi2, diffusion.n_points - diffusion.n_parameters)
            if difference > 0
            else (sum(one.chi2 for one in shells), sum(one.n_points - one.n_parameters for one in shells))
        )
        if chi2_distribution.sf(chi2, free) < _MISFIT:
            warnings.append(
                f"neither explains the profiles: chi2 of the better is {chi2:.0f} for {free} degrees of freedom"
            )
    elif math.isfinite(difference):
        warnings.append(f"the two are not told apart: their AIC differ by {abs(difference):.1f}")
    return ProfileComparison(diffusion, shells, difference, better, tuple(dict.fromkeys(warnings)))
