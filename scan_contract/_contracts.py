"""The contract in the start document, one model per technique under one version."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ._provenance import (
    PROVENANCE_KEYS,
    FieldOfView,
    Proposal,
    ReferenceSource,
    Sample,
)
from .errors import ContractError

__all__ = [
    "CONTRACTS",
    "CONTRACT_KEY",
    "SCHEMA_VERSION",
    "SWEEP_AXIS",
    "Anchors",
    "Contract",
    "FlatOrder",
    "Flight",
    "FullFieldContract",
    "PointContract",
    "SoftContract",
    "StoredSpectrum",
]

SCHEMA_VERSION = 2
"""Version that is written; version 1 is read too."""

CONTRACT_KEY = "xanes"
"""Where the contract is in the start document."""

SWEEP_AXIS = "sweep"
"""Axis of the sweeps of a scan with point detectors."""

FlatOrder = Literal["per_energy", "every_n", "after_all", "before_all", "none"]


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
    """The energy indices that a run takes, where it goes on with another one."""

    model_config = ConfigDict(frozen=True, extra="allow")

    primary: tuple[int, ...] | None = None
    flat: tuple[int, ...] | None = None


class Contract(BaseModel):
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

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    schema_version: Literal[2] = 2
    technique: str
    edge: str
    energies_ev: Annotated[tuple[Energy, ...], Field(min_length=1)]
    exposure_s: tuple[Positive, ...]
    repeats: AtLeastOne = 1
    devices: dict[str, str | None]
    axes: dict[str, tuple[float, ...]] = {}
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


class FullFieldContract(Contract):
    """An energy scan with a camera in transmission.

    Parameters
    ----------
    flat_order : str
        When flats are taken: beside each energy's frames, after every few energies, after or before all, or never.
    flat_every : int
        Energies between two series of flats with ``every_n``.
    n_flats : int
        Flats per energy, or in all with ``before_all``, where a run that goes on with another one takes them anew.
    n_darks : int
        Darks per distinct exposure.
    saturation_counts : float, optional
        Counts from here on are saturated.
    i0_min : float, optional
        Frames with a lower incident intensity are taken again.
    filter_position : optional
        Where the filters stand.
    """

    technique: Literal["full_field"] = "full_field"
    flat_order: FlatOrder = "per_energy"
    flat_every: AtLeastOne = 10
    n_flats: Count = 1
    n_darks: Count = 1
    saturation_counts: Positive | None = None
    i0_min: float | None = None
    filter_position: Any = None

    @property
    def flats_expected(self) -> int:
        """Number of flats of the whole run."""
        if self.flat_order == "none":
            return 0
        if self.flat_order == "before_all":
            return self.n_flats
        places = len(self.energies_ev) if self.take.flat is None else len(self.take.flat)
        if self.max_frames is not None:
            places = min(places, self.max_frames)
        return places * self.n_flats

    @property
    def events_expected(self) -> int:
        """Darks, flats and frames of the sample together."""
        return self.readings_expected + self.flats_expected + len(set(self.exposure_s)) * self.n_darks


class Anchors(BaseModel):
    """Standards that make a calibration line from edge energy to valence.

    Parameters
    ----------
    edge_energy_ev, valence : tuple of float, (n,)
        Of each standard.
    definition : str
        Definition of their edge energies: half_jump, inflection or white_line.
    edge_energy_sigma_ev : float
        Standard deviation of each edge energy.
    names : tuple of str
        What the standards are.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    edge_energy_ev: Annotated[tuple[Energy, ...], Field(min_length=2)]
    valence: tuple[float, ...]
    definition: Literal["half_jump", "inflection", "white_line"] = "half_jump"
    edge_energy_sigma_ev: Annotated[float, Field(ge=0)] = 0.0
    names: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_valence_an_energy(self) -> "Anchors":
        if len(self.valence) != len(self.edge_energy_ev):
            raise ValueError(f"{len(self.edge_energy_ev)} edge energies and {len(self.valence)} valences")
        if len(set(self.edge_energy_ev)) != len(self.edge_energy_ev):
            raise ValueError("two standards have the same edge energy")
        return self


class StoredSpectrum(BaseModel):
    """A normalised spectrum.

    Parameters
    ----------
    energy_ev, normalized_mu : tuple of float, (n,)
        Increasing energies on the calibrated axis, and absorption.
    name : str
        Of what.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    energy_ev: Annotated[tuple[Energy, ...], Field(min_length=2)]
    normalized_mu: tuple[float, ...]
    name: str = ""

    @model_validator(mode="after")
    def _increasing(self) -> "StoredSpectrum":
        if len(self.normalized_mu) != len(self.energy_ev):
            raise ValueError(f"{len(self.energy_ev)} energies and {len(self.normalized_mu)} values")
        if any(after <= before for before, after in zip(self.energy_ev, self.energy_ev[1:], strict=False)):
            raise ValueError("the energies of a stored spectrum must increase")
        return self


class Flight(BaseModel):
    """What is recorded while the energy axis moves: one row for each sample, in columns of the stream "primary".

    Parameters
    ----------
    sample_s : float
        Time of a sample.
    position : str
        Key of the position of the axis, mean of a sample.
    position_unit : {"eV", "deg"}
        Whether that is an energy or the Bragg angle.
    d_spacing_angstrom : float, optional
        Lattice spacing, where it is an angle.
    offset_ev : float
        Calibration of the axis: what is added to the energy that belongs to the position.
    exposure, sweep, flight : str
        Keys of the counting time of a sample (s), of the number of its sweep from 0, and of the number of its flight: a
        sweep that is flown once more has a higher one, which replaces what the earlier one gave.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    sample_s: Positive
    position: str
    position_unit: Literal["eV", "deg"] = "eV"
    d_spacing_angstrom: Positive | None = None
    offset_ev: float = 0.0
    exposure: str
    sweep: str
    flight: str

    @model_validator(mode="after")
    def _angle_of_a_lattice(self) -> "Flight":
        if self.position_unit == "deg" and self.d_spacing_angstrom is None:
            raise ValueError("an angle needs d_spacing_angstrom to be an energy")
        return self


class PointContract(Contract):
    """An energy scan with point detectors.

    Parameters
    ----------
    channels : mapping of str to str
        Which device is which channel: i0, it, iref, tey, fy.
    n_darks : int
        Readings without beam, whose mean is the offset of each channel.
    target_sigma_ev : float, optional
        Sweeps end when the half-jump energy is known so well.
    anchors : Anchors, optional
        Standards of known valence that make the calibration line.
    compared_with : StoredSpectrum, optional
        A spectrum, such as that of the pristine sample, to take the difference to.
    dead_time_s : mapping of str to float
        Of each channel whose values are counts and not currents, 0 for none: its counts are divided by the exposure and
        corrected for what was lost.
    flight : Flight, optional
        What is recorded of a continuous scan; its channels are columns too, by the names of their devices. A sample
        belongs to the energy of the grid that it is nearest to.
    """

    technique: Literal["xas"] = "xas"
    channels: dict[str, str]
    n_darks: Count = 0
    target_sigma_ev: Positive | None = None
    anchors: Anchors | None = None
    compared_with: StoredSpectrum | None = None
    dead_time_s: dict[str, Annotated[float, Field(ge=0)]] = {}
    flight: Flight | None = None

    @model_validator(mode="after")
    def _dead_times_of_channels(self) -> "PointContract":
        for role in self.dead_time_s:
            if role not in self.channels:
                raise ValueError(f"dead_time_s names {role!r}, which is no channel of the scan")
        return self

    @property
    def events_expected(self) -> int:
        """Darks and readings of the sample together."""
        return self.readings_expected + self.n_darks

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain data for a start document; of the optional parts, those that were said."""
        said = super().to_dict()
        optional = ("n_darks", "target_sigma_ev", "anchors", "compared_with", "dead_time_s", "flight")
        return {key: value for key, value in said.items() if value or key not in optional}


class ComponentSpectrum(StoredSpectrum):
    """A normalised spectrum of one state of an element.

    Parameters
    ----------
    valence : float, optional
        Of the element in it.
    """

    valence: float | None = None


class ReferenceLine(BaseModel):
    """A line of known energy in the signal of a reference.

    Parameters
    ----------
    energy_ev, sigma_ev : float
        Energy of its top, and its standard deviation.
    name : str
        Of what, such as "NiO L3".
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    energy_ev: Energy
    sigma_ev: Annotated[float, Field(ge=0)] = 0.0
    name: str = ""


class StoredAxis(BaseModel):
    """An offset of the energy axis that was measured before.

    Parameters
    ----------
    offset_ev, sigma_ev : float
        What to add to the energies as read back, and its standard deviation.
    source : str
        By what, such as "N2 at 400.8 eV, this morning".
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    offset_ev: float
    sigma_ev: Annotated[float, Field(ge=0)] = 0.0
    source: str = ""


class BulkState(BaseModel):
    """What is known of the bulk of a sample, from hard XAS for one.

    Parameters
    ----------
    valence, sigma : float
        Mean valence of the element, and its standard deviation.
    source : str
        From what.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    valence: float
    sigma: Annotated[float, Field(ge=0)] = 0.0
    source: str = ""


class SoftContract(Contract):
    """An energy scan of a soft edge with yields of different depth.

    Parameters
    ----------
    channels : mapping of str to str
        Which device is which channel: i0 (gold mesh), tey (drain current), fy, iref (drain current of a reference).
    n_darks : int
        Readings without beam, whose mean is the offset of each channel.
    components : tuple of ComponentSpectrum
        Normalised spectra of known states.
    line : ReferenceLine, optional
        Line of the reference measured with the sample.
    stored_axis : StoredAxis, optional
        Offset of the axis that was measured before.
    mesh : StoredSpectrum, optional
        What the mesh shows per photon, on the calibrated axis; its readings are divided by it.
    bulk : BulkState, optional
        Valence of the bulk.
    saturation, depths_nm : mapping of str to float
        Of the yields ("tey", "fy") where they are known: absorption of the edge step over the depth, and the depth.
    """

    technique: Literal["soft_xas"] = "soft_xas"
    channels: dict[str, str]
    n_darks: Count = 0
    components: tuple[ComponentSpectrum, ...] = ()
    line: ReferenceLine | None = None
    stored_axis: StoredAxis | None = None
    mesh: StoredSpectrum | None = None
    bulk: BulkState | None = None
    saturation: dict[str, Annotated[float, Field(ge=0)]] = {}
    depths_nm: dict[str, Positive] = {}

    @property
    def events_expected(self) -> int:
        """Darks and readings of the sample together."""
        return self.readings_expected + self.n_darks

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain data for a start document; of the optional parts, those that were said."""
        said = super().to_dict()
        optional = (
            "n_darks", "components", "line", "stored_axis", "mesh", "bulk", "saturation", "depths_nm",
        )  # fmt: skip
        return {key: value for key, value in said.items() if value or key not in optional}


CONTRACTS: Mapping[str, type[Contract]] = MappingProxyType(
    {"full_field": FullFieldContract, "xas": PointContract, "soft_xas": SoftContract}
)
"""Contracts of the techniques by name."""
