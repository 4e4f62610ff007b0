"""The contract of an energy scan with a camera."""

from typing import Any, Literal

from ._contract import AtLeastOne, Contract, Count, Positive

FlatOrder = Literal["per_energy", "every_n", "after_all", "before_all", "none"]


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
