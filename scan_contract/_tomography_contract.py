"""The contract of rotation series at several energies."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ._contract import Positive
from ._full_field_contract import FullFieldContract

__all__ = ["ANGLE_AXIS", "AngleOrder", "TomographyContract"]

ANGLE_AXIS = "angle_deg"
"""Axis of the angles of a rotation series."""

AngleOrder = Literal["energy_outer", "angle_outer"]

_Places = tuple[Annotated[int, Field(ge=0)], ...]


class TomographyContract(FullFieldContract):
    """Rotation series at one energy or several.

    `axes` holds the angles, ``angle_deg``; with interleaved angles every energy has some of them for itself.

    Parameters
    ----------
    order : str
        "energy_outer": a rotation series at each energy. "angle_outer": all energies at each angle.
    range_deg : float
        Over which the angles are spread: 180 or 360.
    safe_angle_deg : float
        Where the sample is taken out and brought in.
    angles_of : tuple of tuple of int, optional
        Places in the list of angles that each energy is taken at; by default all at every energy.
    angles_taken : tuple of tuple of int, optional
        Of a run that goes on with another one: what it takes at each energy of `take`.
    """

    technique: Literal["tomography"] = "tomography"  # type: ignore[assignment]
    order: AngleOrder = "energy_outer"
    range_deg: Positive = 180.0
    safe_angle_deg: float = 0.0
    angles_of: tuple[_Places, ...] | None = None
    angles_taken: tuple[_Places, ...] | None = None

    @model_validator(mode="after")
    def _angles_are_there(self) -> "TomographyContract":
        n_angles = len(self.angles_deg)
        if not n_angles:
            raise ValueError(f"a rotation series has no angles in its axis {ANGLE_AXIS}")
        for name, rows, count in (
            ("angles_of", self.angles_of, len(self.energies_ev)),
            ("angles_taken", self.angles_taken, len(self.taken_indices)),
        ):
            if rows is None:
                continue
            if len(rows) != count:
                raise ValueError(f"{name} has {len(rows)} rows for {count} energies")
            if any(place >= n_angles for row in rows for place in row):
                raise ValueError(f"{name} has a place beyond the {n_angles} angles")
        return self

    @property
    def angles_deg(self) -> tuple[float, ...]:
        """All angles."""
        return self.axes.get(ANGLE_AXIS, ())

    @property
    def is_interleaved(self) -> bool:
        """Whether each energy has angles of its own."""
        return self.angles_of is not None

    def places_of(self, energy_index: int) -> tuple[int, ...]:
        """Return the places in the list of angles that an energy is taken at."""
        if self.angles_of is None:
            return tuple(range(len(self.angles_deg)))
        return self.angles_of[energy_index]

    def places_taken(self, energy_index: int) -> tuple[int, ...]:
        """Return those of them that this very run takes."""
        if energy_index not in self.taken_indices:
            return ()
        if self.angles_taken is None:
            return self.places_of(energy_index)
        return self.angles_taken[self.taken_indices.index(energy_index)]

    @property
    def readings_expected(self) -> int:
        """Number of projections of this run."""
        return self.repeats * sum(len(self.places_taken(index)) for index in self.taken_indices)

    @property
    def flat_rounds(self) -> int:
        """How often each energy gets its flats."""
        if self.order == "energy_outer" or self.flat_order != "every_n":
            return 1
        return -(-len(self.angles_deg) // self.flat_every)

    @property
    def flats_expected(self) -> int:
        """Number of flats of this run."""
        return super().flats_expected * self.flat_rounds

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain data for a start document; of the optional parts, those that were said."""
        said = super().to_dict()
        return {
            key: value
            for key, value in said.items()
            if value is not None or key not in ("angles_of", "angles_taken")
        }
