"""Pictures of results, and alarms."""

from ._alarms import AlarmWatch, log_alarm
from ._live_plot import LiveSOCPlot

__all__ = [
    "AlarmWatch",
    "LiveSOCPlot",
    "log_alarm",
]
