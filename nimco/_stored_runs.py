"""Stored runs to be analysed: found in Tiled, checked, and read with all that belongs to them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import xarray as xr

from callbacks import ForeignLayout, ForeignRuns, documents_of
from callbacks.techniques import EstimatorOptions, StackedScan, read_scan
from nimco._read_ahead import read_ahead
from nimco._selection import LeaveOut, SelectedDocuments
from nimco._tiled_client import open_tiled
from nimco.errors import NimcoError
from scan_contract import is_energy_scan, read_contract

# Frames that wait while others are corrected: enough to keep both busy, 64 MB of a camera of 2048 x 2048.
_AHEAD = 8
# Fewer characters of a uid are no key for Tiled.
_LEAST_OF_UID = 5


class Secret:
    """A text that is not to be seen where what holds it is printed or logged."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Secret(...)"


@dataclass(frozen=True)
class StoredScanJob:
    """Which stored run to read, and how: all that another process needs for it.

    Attributes
    ----------
    uri, key : str, Secret
        The Tiled server.
    uid : str
        The run.
    options : EstimatorOptions
        Of the analysis; for full-field runs the registration and the folders count here.
    layout : ForeignLayout or None
        How a run of other plans is to be understood.
    corrections : tuple of str
        Uids of the runs with its darks and flats.
    leave_out : tuple of str
        As given on the command line.
    no_dark : bool
        Whether darks are left out.
    """

    uri: str
    key: Secret
    uid: str
    options: EstimatorOptions
    layout: ForeignLayout | None = None
    corrections: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    no_dark: bool = False


def no_run(uid: str) -> str:
    """Say that there is no run of a uid, as a sentence without its full stop."""
    if len(uid) < _LEAST_OF_UID:
        return (
            f"there is no run {uid} in Tiled: give the first {_LEAST_OF_UID} characters of its uid, or more"
        )
    return f"there is no run {uid} in Tiled, or several whose uid begins like that"


def find_run(client: Any, uid: str) -> Any:
    """Return a stored run by its uid, or the beginning of it.

    Raises
    ------
    NimcoError
        There is none, or there are several.
    """
    try:
        stored = client["raw"][uid]
        stored.metadata["start"]
    except (KeyError, ValueError) as error:
        raise NimcoError(f"T{no_run(uid)[1:]}.") from error
    return stored


def check_energy_scan(uid: str, stored: Any) -> None:
    """Raise if a stored run is no energy scan that keeps our contract.

    Raises
    ------
    NimcoError
        It is of other plans.
    """
    if not is_energy_scan(stored.metadata["start"]):
        raise NimcoError(
            f"Run {uid} is no energy scan of nimco (its start document has no xanes part); where other plans made it, "
            "say with --layout FILE how it is to be understood."
        )


def is_full_field(stored: Any) -> bool:
    """Whether a stored run of ours has frames of a camera."""
    return read_contract(stored.metadata["start"]).scan.technique == "full_field"


def read_job(
    job: StoredScanJob, path: Path, *, on_document: Callable[[str], object] = lambda name: None
) -> StackedScan | xr.Dataset:
    """Read a stored run through the reducers of the live analysis, see `callbacks.techniques.read_scan`.

    Raises
    ------
    NimcoError, CallbackError
        The server does not answer, or the run cannot be analysed.
    """
    client = open_tiled(job.uri, job.key.text, remedy="the key was given with the command")
    try:
        documents = read_ahead(_documents(client, job), _AHEAD)
        return read_scan(documents, job.options, path, on_document=on_document)
    except httpx.TransportError as error:
        raise NimcoError(
            f"Tiled at {job.uri} has stopped answering ({type(error).__name__}) while run {job.uid[:8]} was read."
        ) from error


def _documents(client: Any, job: StoredScanJob) -> Iterator[tuple[str, dict[str, Any]]]:
    leave_out = LeaveOut(job.leave_out)
    told: list[tuple[str, dict[str, Any]]] = []
    selected = SelectedDocuments(lambda name, doc: told.append((name, doc)), leave_out, no_dark=job.no_dark)
    foreign = ForeignRuns(() if job.layout is None else (job.layout,))
    stored = find_run(client, job.uid)
    for part in (
        *(find_run(client, uid) for uid in job.corrections),
        *_with_interrupted(client["raw"], stored),
    ):
        for name, doc in documents_of(part):
            for told_name, told_doc in foreign.translate(name, doc):
                if told_name == "start" and is_energy_scan(told_doc):
                    leave_out.indices(read_contract(told_doc).scan.energies_ev)
                selected(told_name, told_doc)
            yield from told
            told.clear()


def _with_interrupted(raw: Any, stored: Any) -> list[Any]:
    """Return a stored run after the interrupted runs that it resumes."""
    runs = [stored]
    while (uid := _resumed(runs[0].metadata["start"])) and uid in raw:
        runs.insert(0, raw[uid])
    return runs


def _resumed(start: Mapping[str, Any]) -> str | None:
    """Return the run that a run goes on with; None for one that does not, or is of other plans."""
    return read_contract(start).scan.resumes if is_energy_scan(start) else None
