"""What the contract of every technique says in the start document."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ._entry import Entry
from ._provenance import (
    PROVENANCE_KEYS,
    FieldOfView,
    Proposal,
    ReferenceSource,
    Sample,
)
from .errors import ContractError

__all__ = [
    "CONTRACT_KEY",
    "SCHEMA_VERSION",
    "AtLeastOne",
    "Contract",
    "Count",
    "Energy",
    "Positive",
]

SCHEMA_VERSION = 2
"""Version that is written; version 1 is read too."""

CONTRACT_KEY = "xanes"
"""Where the contract is in the start document."""


# Below this an energy is in keV; the lowest edges of the project are near 280 eV, and no K edge of it is below 5 keV.
_LOWEST_EV = 50.0


def _energy(value: float) -> float:
    if value < _LOWEST_EV:
        raise ValueError(f"an energy in eV is expected, {value:g} looks like keV")
    return value


def _positive(value: float) -> float:
    if not value > 0:
        raise ValueError("a positive number is expected")
    return value


Energy = Annotated[float, AfterValidator(_energy)]
Positive = Annotated[float, AfterValidator(_positive)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


class Taken(BaseModel):
    """The energy indices that a run takes, where it goes on with another one; of a raster, the first row it takes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    primary: tuple[int, ...] | None = None
    flat: tuple[int, ...] | None = None
    first_row: Annotated[int, Field(ge=0)] | None = None


class Contract(Entry):
    """What every energy scan says.

    Parameters
    ----------
    schema_version : int
        Version of this contract.
    technique : str
        How it was measured; decides what analyses it.
    edge : str
        For example ``Ni_K``.
    energies_ev, exposure_s : tuple of float, (n,)
        Planned energies and exposures in the order of acquisition; the place in these lists is the energy index.
    repeats : int
        Readings per energy.
    devices : mapping of str to str
        Names of the devices by role; None for a role that nothing has.
    axes : mapping of str to tuple of float
        The technique's further axes, such as ``angle_deg``; labels hold places in these lists.
    pixel_size_nm : float, optional
        Pixel size at the sample.
    references : mapping, optional
        Reference spectra with known state of charge, `edge_fitting.ReferenceSeries.to_dict`.
    reference_sources : tuple of ReferenceSource
        Where they came from.
    sample, field_of_view, proposal
        Who and what.
    resumes : str, optional
        Uid of the interrupted run that this one goes on with.
    take : Taken
        What that one lacked.
    max_frames : int, optional
        Most readings of a scan that decides on the way how many it takes.
    """

    schema_version: Literal[2] = 2
    technique: str
    edge: str
    energies_ev: Annotated[tuple[Energy, ...], Field(min_length=1)]
    exposure_s: tuple[Positive, ...]
    repeats: AtLeastOne = 1
    devices: dict[str, str | None]
    axes: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    pixel_size_nm: Positive | None = None
    references: dict[str, Any] | None = None
    reference_sources: tuple[ReferenceSource, ...] = ()
    sample: Sample | None = None
    field_of_view: FieldOfView | None = None
    proposal: Proposal | None = None
    resumes: str | None = None
    take: Taken = Taken()
    max_frames: Count | None = None

    @model_validator(mode="after")
    def _one_exposure_an_energy(self) -> "Contract":
        if len(self.exposure_s) != len(self.energies_ev):
            raise ValueError(f"{len(self.energies_ev)} energies and {len(self.exposure_s)} exposures")
        n_energies = len(self.energies_ev)
        for name in ("primary", "flat"):
            for index in getattr(self.take, name) or ():
                if not 0 <= index < n_energies:
                    raise ValueError(f"energy index {index} is taken of a grid of {n_energies}")
        return self

    @property
    def taken_indices(self) -> tuple[int, ...]:
        """Indices of the energies that this run takes readings at: all, or what an interrupted run lacks."""
        return tuple(range(len(self.energies_ev))) if self.take.primary is None else self.take.primary

    @property
    def readings_expected(self) -> int:
        """Number of readings of the sample in the whole run, or the most there may be."""
        if self.max_frames is not None:
            return self.max_frames
        places = 1
        for axis in self.axes.values():
            places *= max(len(axis), 1)
        return len(self.taken_indices) * self.repeats * places

    @property
    def events_expected(self) -> int:
        """Number of events of the whole run in all its streams, as a progress bar counts them."""
        return self.readings_expected

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain data for a start document; of the optional parts, those that were said.

        Raises
        ------
        ContractError
            A further entry is no plain data.
        """
        try:
            said = self.model_dump(mode="json")
        except ValueError as error:  # pydantic's own errors of serialisation are such
            raise ContractError(f"the contract holds what a document cannot: {error}") from None
        for name in (*PROVENANCE_KEYS, "take"):
            said[name] = _without_none(said[name] or {})
        said["reference_sources"] = [_without_none(source) for source in said["reference_sources"]]
        optional = (*PROVENANCE_KEYS, "take", "reference_sources", "axes", "resumes", "max_frames")
        return {key: value for key, value in said.items() if value or key not in optional}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
