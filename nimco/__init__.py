"""Live state-of-charge maps from energy scans across the Ni, Mn and Co edges."""

from nimco._version import __version__

__all__ = ["__version__"]
