"""Half-jump, inflection, white line and arctan-Gauss, on whole spectra."""

from ._arctan_gauss import ArctanGaussMethod
from ._window_methods import WINDOW_METHODS, WindowMethod
from ._window_status import INCOMPLETE

__all__ = [
    "INCOMPLETE",
    "WINDOW_METHODS",
    "ArctanGaussMethod",
    "WindowMethod",
]
