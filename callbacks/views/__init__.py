"""Pictures of results."""

from ._live_plot import LiveSOCPlot

__all__ = [
    "LiveSOCPlot",
]
