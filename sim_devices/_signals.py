"""Soft signals that describe themselves as completely as EPICS ones do."""

from typing import Any

from ophyd import Kind, Signal

__all__ = ["SimSignal"]


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
