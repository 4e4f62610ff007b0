"""What a result of a technique holds: one schema that figures, Tiled, exports and readers take everything from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from callbacks.documents import read_only
from callbacks.errors import CallbackError

from ._plain_metadata import plain_metadata
from ._store_keys import RESERVED_NAMES

Role = Literal["value", "sigma", "systematic", "status", "quality", "coordinate"]
Storage = Literal["array", "table", "metadata"]


@dataclass(frozen=True)
class Field:
    """One array of a result.

    Parameters
    ----------
    name : str
        Its name, with the unit where a bare number could be misread.
    dims : tuple of str
        Names of its dimensions, such as ``("row", "column")`` or ``("energy",)``.
    dtype : str
        Type of its values, such as ``float32``.
    unit : str
        Unit of its values; empty for a pure number.
    meaning : str
        What it is, in words.
    role : str
        Whether it is a value, the standard deviation or the systematic uncertainty of one, a status, a quality, or a
        coordinate.
    of : str, optional
        The value that it belongs to.
    storage : {"array", "table", "metadata"}, optional
        How it is kept: as an array of its own, as a column of a table, or, being small and growing with every frame,
        in the metadata. By default a column where there is one dimension, else an array.
    path : str, optional
        Where it is kept: ``group/column`` of a table or of the metadata. By default the dimension and the name.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    unit: str
    meaning: str
    role: Role = "value"
    of: str | None = None
    storage: Storage | None = None
    path: str | None = None


@dataclass(frozen=True)
class ResultSchema:
    """The arrays of a technique's results, in the order in which they are shown and written.

    Parameters
    ----------
    spec : str
        Name of the spec of its containers in Tiled.
    version : str
        Version of that spec: a whole number.
    fields : tuple of Field
        What a result may hold; one that a run has no values for is left out.

    Raises
    ------
    CallbackError
        Two fields of one name, or a field that belongs to none of the others.
    """

    spec: str
    version: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise CallbackError(
                f"the schema {self.spec} has two fields of the name {', '.join(sorted(twice))}"
            )
        for field in self.fields:
            if field.of is not None and field.of not in names:
                raise CallbackError(
                    f"the field {field.name} of {self.spec} belongs to {field.of!r}, which is none"
                )

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(field.name == name for field in self.fields)

    def along(self, *dims: str) -> tuple[Field, ...]:
        """Return the fields with exactly these dimensions."""
        return tuple(field for field in self.fields if field.dims == dims)

    def related(self, name: str, role: Role) -> Field | None:
        """Return the field of a role that belongs to another one, such as the sigma of a value."""
        return next((field for field in self.fields if field.of == name and field.role == role), None)

    def make(
        self, values: Mapping[str, Any], attrs: Mapping[str, Any], *, signal: str | None = None
    ) -> xr.Dataset:
        """Make a result.

        Parameters
        ----------
        values : mapping of str to array_like
            Values by the names of the fields; a field may be missing.
        attrs : mapping
            What else a reader needs to know, as plain data.
        signal : str, optional
            The value that is shown first and written with every update; by default the first one there is.

        Returns
        -------
        xarray.Dataset
            Its arrays and attributes are read-only, so that no subscriber changes what another one gets. Besides
            ``attrs`` it says ``spec``, ``schema_version`` and ``signal``.

        Raises
        ------
        CallbackError
            A name that the schema does not know, values of other dimensions, or an attribute whose name publication or
            the schema itself uses, so that it would be lost.
        """
        unknown = [name for name in values if name not in self]
        if unknown:
            raise CallbackError(f"the schema {self.spec} has no field {unknown[0]!r}")
        self._check_attributes(attrs)
        variables: dict[str, Any] = {}
        coordinates: dict[str, Any] = {}
        for field in self.fields:
            if field.name not in values:
                continue
            array = np.asarray(values[field.name]).astype(field.dtype, copy=False).view()
            if array.ndim != len(field.dims):
                raise CallbackError(
                    f"{field.name} has the shape {array.shape} where dimensions {field.dims} were announced"
                )
            array.flags.writeable = False
            kind = coordinates if field.role == "coordinate" else variables
            kind[field.name] = (field.dims, array, field_attrs(field))
        shown = [name for name in variables if self[name].role == "value"]
        about = {
            **attrs,
            "spec": self.spec,
            "schema_version": int(self.version),
            "signal": signal or (shown[0] if shown else None),
        }
        try:
            return xr.Dataset(variables, coordinates, attrs=dict(read_only(plain_metadata(about))))
        except ValueError as error:
            raise CallbackError(f"the arrays of a {self.spec} do not fit together: {error}") from error

    def _check_attributes(self, attrs: Mapping[str, Any]) -> None:
        groups = {
            field.path.partition("/")[0]
            for field in self.fields
            if field.storage == "metadata" and field.path
        }
        for name in attrs:
            if name in RESERVED_NAMES:
                raise CallbackError(
                    f"a {self.spec} cannot have an attribute {name!r}: the schema and publication "
                    "keep their own under that name; give it another name"
                )
            if name in groups:
                raise CallbackError(
                    f"a {self.spec} cannot have an attribute {name!r}: fields of the schema are kept under that name; "
                    "give it another one"
                )


def field_attrs(field: Field) -> dict[str, str]:
    """Return what a variable says of itself: unit, meaning, role, the value it belongs to, and how it is kept."""
    attrs: dict[str, str] = {"units": field.unit, "long_name": field.meaning, "role": field.role}
    for key in ("of", "storage", "path"):
        if (value := getattr(field, key)) is not None:
            attrs[key] = value
    return attrs
