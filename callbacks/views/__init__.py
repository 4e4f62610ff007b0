"""Pictures of results, and alarms."""

from ._alarms import Alarm, AlarmWatch, log_alarm
from ._live_plot import LiveSOCPlot

__all__ = [
    "Alarm",
    "AlarmWatch",
    "LiveSOCPlot",
    "log_alarm",
]
