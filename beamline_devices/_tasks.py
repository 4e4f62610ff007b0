"""Work of several steps that a device does in the background, and waiting for process variables."""

import threading
import time
from collections.abc import Callable
from typing import Any

from ophyd import Device, DeviceStatus, get_cl
from ophyd.signal import EpicsSignalBase
from ophyd.utils import DisconnectedError

from beamline_devices._connections import Connections, listed
from beamline_devices.errors import DeviceError, DeviceTimeoutError, NotConnectedError

__all__ = ["Task", "await_put", "connect_devices", "put_complete", "wait_for_value"]

_POLL_INTERVAL_S = 0.05
# What is to stop has this long to do so.
_STOP_S = 5.0


class _Work:
    """What a task is doing; `success` is what its status becomes when it is stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.ended = threading.Event()
        self.success = False


class Task:
    """One piece of work of a device at a time, on a thread of its own.

    Parameters
    ----------
    device : ophyd.Device
        Whose work it is.
    halt : callable, optional
        Brings what moves to a stand after work that failed, before anybody hears of the failure.

    Attributes
    ----------
    connections : Connections
        Of the device; work ends when one of them goes.
    """

    def __init__(self, device: Device, halt: Callable[[], None] | None = None) -> None:
        self._device = device
        self._halt = halt
        self._begin = threading.Lock()
        self._work = _Work()
        self._work.ended.set()
        self.connections = Connections(device)

    def start(self, work: Callable[[], None]) -> DeviceStatus:
        """Begin work; the status is done when it returns, and fails with what it raises.

        Work that is to stop gets a moment to end first; its own status is then what `stop` was asked for.

        Raises
        ------
        DeviceError
            When the device is still at work.
        NotConnectedError
            When process variables of the device have stopped to answer.
        """
        self.connections.watch()
        with self._begin:
            before = self._work
            if not before.ended.wait(_STOP_S if before.stopped.is_set() else 0.0):
                raise DeviceError(f"{self._device.name} is still busy, wait for it or stop it")
            # Left to ophyd, the device would be stopped after the failure is known, and with it a second try.
            status = DeviceStatus(self._device, call_stop_on_failure=False)
            doing = self._work = _Work()

        def run() -> None:
            try:
                work()
            except Exception as error:
                failure = _as_device_error(self._device.name, error)
                try:
                    if self._halt is not None:
                        self._halt()
                except Exception as another:
                    failure.add_note(f"It could not be stopped either: {another}")
                doing.ended.set()
                if doing.success:
                    status.set_finished()
                else:
                    status.set_exception(failure)
            else:
                doing.ended.set()
                status.set_finished()

        # A thread of the control layer: its Channel Access context is that of the signals.
        get_cl().thread_class(target=run, daemon=True, name=f"{self._device.name} at work").start()
        return status

    def stop(self, *, success: bool = False) -> None:
        """Ask the work to end: it raises DeviceError where it looks, and its status succeeds or fails as asked."""
        work = self._work
        work.success = success
        work.stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait, and see to it that the work may go on.

        Raises
        ------
        DeviceError
            When stopped.
        NotConnectedError
            When process variables of the device have stopped to answer.
        """
        deadline = time.monotonic() + seconds
        while True:
            left_s = deadline - time.monotonic()
            work, wait_s = self._work, min(max(left_s, 0.0), _POLL_INTERVAL_S)
            # Waiting may also be done for no work, while a device is staged: a stop of earlier work is past.
            if work.ended.is_set():
                time.sleep(wait_s)
            elif work.stopped.wait(wait_s):
                raise DeviceError(f"{self._device.name} was stopped before it was done")
            self.connections.check()
            if left_s <= _POLL_INTERVAL_S:
                return


def _as_device_error(name: str, error: Exception) -> DeviceError:
    if isinstance(error, DeviceError):
        return error
    failure = f"{name}: {str(error) or type(error).__name__}"
    if isinstance(error, (DisconnectedError, ConnectionError)):
        made: DeviceError = NotConnectedError(failure)
    elif isinstance(error, TimeoutError):
        made = DeviceTimeoutError(failure)
    else:
        made = DeviceError(failure)
    made.__cause__ = error
    return made


def wait_for_value(
    signal: Any,
    wanted: Callable[[Any], bool],
    timeout_s: float,
    sentence: Callable[[], str],
    task: Task | None = None,
) -> Any:
    """Wait until a monitored signal has a value, and return it.

    Parameters
    ----------
    signal : ophyd.Signal
        Signal with a monitor.
    wanted : callable
        Whether a value is the one.
    timeout_s : float
        How long to wait.
    sentence : callable
        What to say when it does not come.
    task : Task, optional
        Ends the wait when stopped.

    Raises
    ------
    DeviceTimeoutError
        When it does not come.
    DeviceError
        When the task is stopped.
    """
    changed = threading.Event()
    seen: list[Any] = []

    def take(*, value: Any, **_: Any) -> None:
        if wanted(value):
            seen.append(value)
            changed.set()

    signal.subscribe(take, event_type=signal.SUB_VALUE, run=True)
    try:
        _await(changed, timeout_s, sentence, task)
    finally:
        signal.clear_sub(take)
    return seen[-1]


def put_complete(signal: Any, value: Any) -> threading.Event:
    """Write with completion: the event is set when the record says that what the write began has ended."""
    done = threading.Event()
    signal.put(value, use_complete=True, callback=lambda **_: done.set())
    return done


def await_put(
    done: threading.Event, timeout_s: float, sentence: Callable[[], str], task: Task | None = None
) -> None:
    """Wait for a write of `put_complete` to end.

    Raises
    ------
    DeviceTimeoutError
        When it does not end in time.
    DeviceError
        When the task is stopped.
    """
    _await(done, timeout_s, sentence, task)


def _await(event: threading.Event, timeout_s: float, sentence: Callable[[], str], task: Task | None) -> None:
    deadline = time.monotonic() + timeout_s
    while not event.wait(min(max(deadline - time.monotonic(), 0.0), _POLL_INTERVAL_S)):
        if task is not None:
            task.pause(0.0)
        if time.monotonic() >= deadline:
            raise DeviceTimeoutError(sentence())


def connect_devices(*devices: Device, timeout_s: float = 5.0) -> None:
    """Wait until every process variable of the devices answers.

    Raises
    ------
    NotConnectedError
        Naming the process variables that do not answer.
    """
    deadline = time.monotonic() + timeout_s
    missing: list[str] = []
    for device in devices:
        try:
            device.wait_for_connection(all_signals=True, timeout=max(deadline - time.monotonic(), 0.01))
        except TimeoutError as error:
            unanswered = [
                walk.item.pvname
                for walk in device.walk_signals(include_lazy=True)
                if isinstance(walk.item, EpicsSignalBase) and not walk.item.connected
            ]
            if not unanswered:
                raise NotConnectedError(
                    f"{device.name} is not complete after {timeout_s:g} s: {error}"
                ) from error
            missing.extend(unanswered)
    if missing:
        raise NotConnectedError(
            f"{len(missing)} process variables do not answer within {timeout_s:g} s: {listed(missing)}; "
            "check the prefix and that the IOC runs"
        )
