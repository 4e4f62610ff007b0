"""The two ways in: frames one by one, or a whole stack."""

from ._fitter import EdgeFitter, fit_stack
from ._warm_up import warm_up

__all__ = [
    "EdgeFitter",
    "fit_stack",
    "warm_up",
]
