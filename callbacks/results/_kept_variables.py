"""How the arrays of a result are kept, as its variables say themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.errors import CallbackError


@dataclass(frozen=True)
class KeptVariable:
    """One variable of a result, and where it is kept.

    Attributes
    ----------
    name : str
        Its name in the result.
    dims : tuple of str
        Its dimensions.
    dtype : str
        Type of its values.
    attrs : dict of str to str
        What it says of itself.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    attrs: dict[str, str]

    @property
    def storage(self) -> str:
        """``array``, ``table`` or ``metadata``."""
        return self.attrs.get("storage") or ("table" if len(self.dims) == 1 else "array")

    @property
    def group(self) -> str:
        """Name of its table, or of its group in the metadata."""
        return self._path[0]

    @property
    def column(self) -> str:
        """Name of its column there."""
        return self._path[1]

    @property
    def _path(self) -> tuple[str, str]:
        group, _, column = self.attrs.get("path", "").partition("/")
        return group or "_".join(self.dims) or "scalars", column or self.name

    def to_dict(self) -> dict[str, Any]:
        """Return everything about it as plain data."""
        return {"name": self.name, "dims": list(self.dims), "dtype": self.dtype, "attrs": self.attrs}

    def decode(self, values: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return values as they were before they were kept, read-only.

        Raises
        ------
        CallbackError
            They are none of this variable.
        """
        try:
            if isinstance(values, list) and self.dtype.startswith("float"):
                values = [np.nan if value is None else value for value in values]
            array = np.asarray(values).astype(self.dtype, copy=False).reshape(shape).view()
        except (TypeError, ValueError) as error:
            raise CallbackError(f"{self.name} cannot be read: {error}") from error
        array.flags.writeable = False
        return array


def variables_of(result: xr.Dataset) -> tuple[KeptVariable, ...]:
    """Return what a result consists of, in its order."""
    return tuple(_variable(result, name) for name in _ordered(result))


def variables_from(listed: Any) -> tuple[KeptVariable, ...]:
    """Return what `KeptVariable.to_dict` gave for each variable.

    Raises
    ------
    CallbackError
        It is no such list.
    """
    try:
        return tuple(
            KeptVariable(str(about["name"]), tuple(about["dims"]), str(about["dtype"]), dict(about["attrs"]))
            for about in listed
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CallbackError(
            f"the list of what the result consists of is damaged ({type(error).__name__}: {error})"
        ) from error


def dataset_of(
    variables: dict[str, tuple[KeptVariable, npt.NDArray[Any]]], attrs: dict[str, Any]
) -> xr.Dataset:
    """Put a result together again."""
    parts: dict[bool, dict[str, Any]] = {True: {}, False: {}}
    for name, (about, array) in variables.items():
        parts[about.attrs.get("role") == "coordinate"][name] = (about.dims, array, about.attrs)
    try:
        return xr.Dataset(parts[False], parts[True], attrs=attrs)
    except ValueError as error:
        raise CallbackError(f"the arrays of the result do not fit together: {error}") from error


def first_of(result: xr.Dataset) -> tuple[str, ...]:
    """Return the names of what is watched first: the signal and its standard deviation."""
    signal = str(result.attrs.get("signal"))
    if signal not in result:
        return ()
    return (signal, *(name for name in related(result, signal, "sigma")))


def related(result: xr.Dataset, of: str, role: str) -> tuple[str, ...]:
    """Return the names of the variables of a role that belong to another one."""
    return tuple(
        str(name)
        for name, variable in result.variables.items()
        if variable.attrs.get("of") == of and variable.attrs.get("role") == role
    )


def _ordered(result: xr.Dataset) -> Iterator[str]:
    yield from map(str, result.data_vars)
    yield from map(str, result.coords)


def _variable(result: xr.Dataset, name: str) -> KeptVariable:
    variable = result.variables[name]
    return KeptVariable(name, tuple(map(str, variable.dims)), variable.dtype.str, dict(variable.attrs))
