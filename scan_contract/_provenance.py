"""Who and what: the sample, the field of view, the proposal, and where the references came from."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError

from ._entry import Entry
from ._one_sentence import first_problem
from .errors import ContractError

__all__ = [
    "PROVENANCE_KEYS",
    "FieldOfView",
    "Proposal",
    "ReferenceSource",
    "Sample",
    "read_provenance",
]

PROVENANCE_KEYS = ("sample", "field_of_view", "proposal")
"""Parts of the contract that say who and what."""


class Described(Entry):
    """Base of what is said about a measurement: fixed once made, further keys are kept."""


Text = Annotated[str | None, BeforeValidator(lambda value: value if value is None else str(value))]


class Sample(Described):
    """The sample.

    Parameters
    ----------
    name : str
        What the group calls it.
    composition : str
        Formula, such as ``LiNi0.6Mn0.2Co0.2O2``, or a family, such as ``NMC622``.
    electrode_side : {"cathode", "anode"}
        Which electrode it is.
    part : str
        Where it was taken from, such as ``surface`` or ``current collector side``.
    cycle : float
        Cycle number; halves are half cycles.
    voltage_v : float
        Cell voltage when it was stopped or measured.
    history : str
        What happened to it before.
    """

    name: Text = None
    composition: Text = None
    electrode_side: Literal["cathode", "anode"] | None = None
    part: Text = None
    cycle: float | None = None
    voltage_v: float | None = None
    history: Text = None


class FieldOfView(Described):
    """Where on the sample the picture was taken.

    Parameters
    ----------
    name : str
        What it is called.
    row_um, column_um, z_um : float
        Position of its centre on the sample.
    """

    name: Text = None
    row_um: float | None = None
    column_um: float | None = None
    z_um: float | None = None


class Proposal(Described):
    """Under whose beam time, and where its files go.

    Parameters
    ----------
    number : str
        Number of the proposal.
    title, principal_investigator : str
        As the facility knows them.
    path : str
        Folder of the beam time.
    """

    number: Text = None
    title: Text = None
    principal_investigator: Text = None
    path: Text = None


class ReferenceSource(Described):
    """Where a reference spectrum came from.

    Parameters
    ----------
    name : str
        Name of the spectrum or of the standard.
    source : str
        A run's uid, a file's name, or an entry of the reference library.
    version : str
        Version of that entry.
    foil, definition : str
        What its energy axis was calibrated with, and by which definition of the edge energy.
    shift_ev : float
        Shift that the calibration applied.
    """

    name: Text = None
    source: Text = None
    version: Text = None
    foil: Text = None
    definition: Text = None
    shift_ev: float | None = None


_MODELS: Mapping[str, tuple[type[Described], str]] = MappingProxyType(
    {"sample": (Sample, "name"), "field_of_view": (FieldOfView, "name"), "proposal": (Proposal, "number")}
)


def read_provenance(
    metadata: Mapping[str, Any], names: Iterable[str] = PROVENANCE_KEYS
) -> dict[str, Described | None]:
    """Read who and what from metadata, as a user gives them to a plan.

    Parameters
    ----------
    metadata : mapping
        May hold ``sample``, ``field_of_view`` and ``proposal``: each a mapping, or just its name or number.
    names : iterable of str
        Which of them to read.

    Returns
    -------
    dict
        By name; None where nothing is said.

    Raises
    ------
    ContractError
        For a value that cannot be what its key says.
    """
    return {name: _described(name, metadata.get(name)) for name in names}


def _described(name: str, value: Any) -> Described | None:
    model, short = _MODELS[name]
    if value is None or isinstance(value, model):
        return value
    what = name.replace("_", " ")
    if isinstance(value, str | int | float):
        value = {short: value}
    elif not isinstance(value, Mapping):
        raise ContractError(
            f"the {what} is {value!r}; say a mapping such as {{{short!r}: ...}}, or just its {short}"
        )
    try:
        return model.model_validate({str(key): entry for key, entry in value.items()})
    except ValidationError as error:
        raise ContractError(f"the {what} cannot be described so: {first_problem(error)}") from None
