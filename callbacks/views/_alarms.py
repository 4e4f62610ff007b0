"""Alarms while a scan runs: what is wrong, since when, and what to do; said once, and once more when it is over."""

import logging
import time
from collections.abc import Callable, Iterable

import xarray as xr

from callbacks.results import Alarm, AlarmLog, Sink

_LOG = logging.getLogger("nimco.alarms")


def log_alarm(alarm: Alarm) -> None:
    """Write an alarm to the log ``nimco.alarms``, which the commands print: the simplest hook."""
    level = logging.INFO if alarm.ended_s is not None or alarm.severity == "note" else logging.WARNING
    _LOG.log(level, "%s", alarm)


class AlarmWatch(Sink):
    """Looks at every result, and calls a hook when an alarm begins and when it ends, once each.

    Subscribe it to a `LiveSOC`, or give a `nimco.Session` the hook as ``on_alarm``.

    Parameters
    ----------
    hook : callable
        Takes an `Alarm`, such as `log_alarm`, or what posts it to the chat of a beamline; on a thread of its own, so
        that it may be slow; what it raises is logged.
    delivery : callable, optional
        Returns the sentences on what cannot be delivered now.

    Notes
    -----
    The rules are fixed, and each sentence names its figures. Alarms of a run that is over stay as they were: they are
    those of its map.
    """

    def __init__(
        self, hook: Callable[[Alarm], object], *, delivery: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._hook, self._delivery = hook, delivery
        self._alarms = AlarmLog()
        super().__init__("alarms")

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """The alarms that stand now, the oldest first."""
        return self._alarms.standing

    def close(self) -> None:
        """Deal with the results so far, and end."""
        self._worker.wait(10.0)
        self._worker.stop(10.0)

    def _take(self, result: xr.Dataset) -> None:
        for alarm in self._alarms.take(result, time.time(), self._delivery()):
            self._log.guarded(self._hook, alarm)
