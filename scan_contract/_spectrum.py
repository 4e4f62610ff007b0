"""Spectra that a contract may hold."""

from typing import Annotated

from pydantic import Field, model_validator

from ._contract import Energy
from ._entry import Entry


class StoredSpectrum(Entry):
    """A normalised spectrum.

    Parameters
    ----------
    energy_ev, normalized_mu : tuple of float, (n,)
        Increasing energies on the calibrated axis, and absorption.
    name : str
        Of what.
    """

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
