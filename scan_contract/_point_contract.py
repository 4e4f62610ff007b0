"""The contract of an energy scan with point detectors."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ._contract import Contract, Count, Energy, Positive
from ._entry import Entry
from ._spectrum import StoredSpectrum

SWEEP_AXIS = "sweep"
"""Axis of the sweeps of a scan with point detectors."""


class Anchors(Entry):
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


class Flight(Entry):
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
    dead_time_s: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
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
