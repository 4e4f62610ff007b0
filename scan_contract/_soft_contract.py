"""The contract of an energy scan of a soft edge."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ._contract import Contract, Count, Energy, Positive
from ._entry import Entry
from ._spectrum import StoredSpectrum


class ComponentSpectrum(StoredSpectrum):
    """A normalised spectrum of one state of an element.

    Parameters
    ----------
    valence : float, optional
        Of the element in it.
    """

    valence: float | None = None


class ReferenceLine(Entry):
    """A line of known energy in the signal of a reference.

    Parameters
    ----------
    energy_ev, sigma_ev : float
        Energy of its top, and its standard deviation.
    name : str
        Of what, such as "NiO L3".
    """

    energy_ev: Energy
    sigma_ev: Annotated[float, Field(ge=0)] = 0.0
    name: str = ""


class StoredAxis(Entry):
    """An offset of the energy axis that was measured before.

    Parameters
    ----------
    offset_ev, sigma_ev : float
        What to add to the energies as read back, and its standard deviation.
    source : str
        By what, such as "N2 at 400.8 eV, this morning".
    """

    offset_ev: float
    sigma_ev: Annotated[float, Field(ge=0)] = 0.0
    source: str = ""


class BulkState(Entry):
    """What is known of the bulk of a sample, from hard XAS for one.

    Parameters
    ----------
    valence, sigma : float
        Mean valence of the element, and its standard deviation.
    source : str
        From what.
    """

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
    saturation: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    depths_nm: dict[str, Positive] = Field(default_factory=dict)

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
