"""Soft signals that describe themselves as completely as EPICS ones do."""

from typing import Any

from ophyd import Kind, Signal
from ophyd.status import Status

from beamline_devices import OutOfLimitsError

__all__ = ["ExposureSignal", "SimSignal"]


class SimSignal(Signal):
    """Soft signal with units, precision, limits, choices and array type in its description.

    Parameters
    ----------
    units : str
        Unit of the value, empty for none.
    precision : int, optional
        Digits after the point worth showing.
    limits : tuple of float, optional
        Control limits.
    choices : tuple of str, optional
        Values a string signal takes.
    shape : tuple of int, optional
        Shape of an array.
    dtype_numpy : str
        NumPy type of the value, such as "<f8".
    """

    def __init__(
        self,
        *,
        units: str = "",
        precision: int | None = None,
        limits: tuple[float, float] | None = None,
        choices: tuple[str, ...] | None = None,
        shape: tuple[int, ...] = (),
        dtype_numpy: str = "<f8",
        kind: Kind | str = Kind.normal,
        **kwargs: Any,
    ) -> None:
        super().__init__(kind=kind, **kwargs)
        dtype = "array" if shape else "string" if choices is not None else "number"
        self._data_key: dict[str, Any] = {
            "source": self.source_name,
            "dtype": dtype,
            "shape": list(shape),
            "units": units,
            "dtype_numpy": dtype_numpy,
        }
        if dtype == "number" and dtype_numpy[1] in "iu":
            self._data_key["dtype"] = "integer"
        if precision is not None:
            self._data_key["precision"] = precision
        if limits is not None:
            self._data_key["lower_ctrl_limit"], self._data_key["upper_ctrl_limit"] = limits
        if choices is not None:
            self._data_key["choices"] = list(choices)

    def describe(self) -> dict[str, Any]:
        """Return the data key of the signal."""
        return {self.name: dict(self._data_key)}

    def amend(self, **entries: Any) -> None:
        """Complete the data key with what is known only once the device exists."""
        self._data_key.update(entries)

    def put(self, value: Any, **kwargs: Any) -> None:
        """Take a new value at once; written by the simulation, so nothing is checked."""
        super().put(value, force=True, **kwargs)


class ExposureSignal(SimSignal):
    """Exposure of the next reading, 0.1 ms to 10 minutes."""

    limits_s = (1e-4, 600.0)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(limits=self.limits_s, **kwargs)

    def check_value(self, value: float, **_: Any) -> None:
        """Refuse an exposure outside the limits."""
        low, high = self.limits_s
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            raise OutOfLimitsError(f"{self.name} takes seconds, not {value!r}") from None
        if not low <= seconds <= high:
            raise OutOfLimitsError(f"{self.name} cannot be {seconds:g} s, it takes {low:g} to {high:g} s")

    def set(self, value: float, **_: Any) -> Status:
        """Take a new exposure in seconds."""
        self.check_value(value)
        self.put(float(value))
        status = Status(self)
        status.set_finished()
        return status
