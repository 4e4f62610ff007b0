"""Descriptions that leave nothing open: units, precision and NumPy type of every key."""

from typing import Any

__all__ = ["CompleteDescriptions"]

_NUMPY_TYPES = {"number": "<f8", "integer": "<i8", "boolean": "|b1", "string": "<U40"}
_DEFAULT_PRECISION = 6


class CompleteDescriptions:
    """Mix-in for devices, before `ophyd.Device`: completes what Channel Access left open in its data keys.

    ``dtype_numpy`` becomes the full name of the type that travels in the documents, ``units`` is always
    there (empty for none), a number has a ``precision``, and limits that are both zero, by which EPICS says
    that there are none, are left out.
    """

    def describe(self) -> dict[str, Any]:
        """Return the data keys of what `read` gives."""
        return {key: completed(entry) for key, entry in super().describe().items()}  # type: ignore[misc]

    def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of what `read_configuration` gives."""
        return {key: completed(entry) for key, entry in super().describe_configuration().items()}  # type: ignore[misc]


def completed(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a data key with what it lacks."""
    full = dict(entry)
    given = str(full.get("dtype_numpy", ""))
    if not given.startswith(("<", ">", "|", "=")):
        full.pop("dtype_numpy", None)
        if full["dtype"] in _NUMPY_TYPES:
            full["dtype_numpy"] = _NUMPY_TYPES[full["dtype"]]
    full["units"] = full.get("units") or ""
    if full["dtype"] == "number":
        precision = full.get("precision")
        full["precision"] = _DEFAULT_PRECISION if precision is None else int(precision)
    if full.get("lower_ctrl_limit") == full.get("upper_ctrl_limit"):
        full.pop("lower_ctrl_limit", None)
        full.pop("upper_ctrl_limit", None)
    if "enum_strs" in full:
        full["choices"] = list(full.pop("enum_strs"))
    return full
