"""Reference spectra kept in Tiled, found by edge and composition, every version of them."""

import logging
from typing import Any

import httpx
import numpy.typing as npt
from tiled.client.utils import ClientError
from tiled.structures.core import Spec

from edge_fitting import FoilCalibration, ReferenceSeries, edge_name
from nimco._joined_spectra import join_spectra
from nimco._library_entries import (
    SPEC,
    SPEC_VERSION,
    VERSION_MARK,
    LibraryEntry,
    ReferenceCalibration,
    check_name,
    new_entry,
    same_composition,
)
from nimco._library_series import check_together, known_spectrum
from nimco.errors import ReferenceLibraryError

_LOG = logging.getLogger("nimco")

CONTAINER = "references"
_CONFLICT = 409
# Who loses the race for a version number takes the next; more in a row than there are writers is no race.
_MOST_ATTEMPTS = 50


class ReferenceLibrary:
    """The reference spectra of a Tiled server, in its container ``references``.

    A spectrum has a name; adding under a name that is there makes a new version of it and changes no older one. A
    version counts once its spectrum is written as a whole, so that what was cut short never stands for the name.

    Parameters
    ----------
    client : tiled client
        The root of the server.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def add(
        self,
        name: str,
        energy_ev: npt.ArrayLike,
        mu: npt.ArrayLike,
        *,
        edge: str,
        composition: str,
        calibration: ReferenceCalibration | FoilCalibration,
        soc: float | None = None,
        valence: float | None = None,
        source: str = "",
    ) -> LibraryEntry:
        """Add a spectrum, as a new version where the name is there already.

        Parameters
        ----------
        name : str
            What it is called, such as ``"NMC622 charged"``.
        energy_ev : array_like, shape (n,)
            Energies in eV **on the calibrated axis**: nothing is added to them here.
        mu : array_like, shape (n,)
            Absorption, on any scale.
        edge : str
            The edge, such as ``"Ni_K"``.
        composition : str
            Formula or family.
        calibration : ReferenceCalibration or FoilCalibration
            What the energies were calibrated with, and what that added.
        soc, valence : float, optional
            State of charge, and valence of the metal; one of them at least.
        source : str
            Where the spectrum came from: a file's name, the uid of a run.

        Returns
        -------
        LibraryEntry
            As it is in the library now.

        Raises
        ------
        ReferenceLibraryError
            Something of it cannot be, or the server does not take it.
        """
        entry, spectrum = new_entry(
            name,
            energy_ev,
            mu,
            edge=edge,
            composition=composition,
            calibration=calibration,
            soc=soc,
            valence=valence,
            source=source,
        )
        try:
            return self._write(entry, spectrum)
        except (ClientError, httpx.HTTPError) as error:
            raise ReferenceLibraryError(
                f"Tiled does not take {name} into the reference library ({_reason(error)}); nothing of it counts, add "
                "it again when that is mended."
            ) from error

    def _write(self, entry: LibraryEntry, spectrum: Any) -> LibraryEntry:
        held = self._container(create=True)
        used = [_split_key(key)[1] for key, _ in _of_name(held, entry.name)]
        version = max(used, default=0) + 1
        for attempt in range(_MOST_ATTEMPTS):
            metadata = {**entry.to_metadata(), "version": version + attempt, "whole": False}
            key = f"{entry.name}{VERSION_MARK}{version + attempt}"
            try:
                node = held.write_array(
                    spectrum,
                    key=key,
                    dims=("column", "energy"),
                    metadata=metadata,
                    specs=[Spec(SPEC, version=SPEC_VERSION)],
                )
            except ClientError as error:
                if error.response.status_code != _CONFLICT:
                    raise
                continue
            node.update_metadata({"whole": True}, drop_revision=True)
            return LibraryEntry.from_node(key, held[key])
        raise ReferenceLibraryError(
            f"{_MOST_ATTEMPTS} versions of {entry.name} were added by others meanwhile; add it again."
        )

    def find(self, *, edge: str | None = None, composition: str | None = None) -> list[LibraryEntry]:
        """Find spectra by edge and composition.

        Parameters
        ----------
        edge : str, optional
            The edge; any by default.
        composition : str, optional
            Formula, its elements in any order, or family in any case; any by default.

        Returns
        -------
        list of LibraryEntry
            The current version of each, by edge, composition, state and name; empty where there are none.

        Raises
        ------
        ReferenceLibraryError
            The server does not answer.
        """
        wanted = None if edge is None else edge_name(edge)
        entries, damaged = self._entries()
        current: dict[str, LibraryEntry] = {}
        for entry in entries:
            there = current.get(entry.name)
            if there is None or there.version < entry.version:
                current[entry.name] = entry
        for (name, version), error in damaged.items():
            # An older version does not quietly stand in for it.
            if name not in current or current[name].version < version:
                current.pop(name, None)
                _LOG.warning("%s", error)
        found = [
            entry
            for entry in current.values()
            if wanted in (None, entry.edge)
            and (composition is None or same_composition(composition, entry.composition))
        ]
        return sorted(found, key=_order)

    def versions(self, name: str) -> list[LibraryEntry]:
        """Return all versions of a spectrum, the first one first.

        Raises
        ------
        ReferenceLibraryError
            There is no such spectrum.
        """
        return self._versions(name)[0]

    def get(self, name: str, version: int | None = None) -> LibraryEntry:
        """Return a spectrum.

        Parameters
        ----------
        name : str
            Its name, or ``NAME@VERSION``.
        version : int, optional
            Which version; the current one by default.

        Raises
        ------
        ReferenceLibraryError
            There is no such spectrum, or no such version.
        """
        if version is None:
            name, version = split_version(name)
        found, damaged = self._versions(name)
        wanted = max([*damaged, *(entry.version for entry in found)]) if version is None else version
        if wanted in damaged:
            raise damaged[wanted]
        for entry in found:
            if entry.version == wanted:
                return entry
        raise ReferenceLibraryError(
            f"there is no version {version} of {name!r} in the reference library, only "
            f"{', '.join(str(entry.version) for entry in found)}."
        )

    def series(
        self, *names: str | LibraryEntry, edge: str | None = None, composition: str | None = None
    ) -> ReferenceSeries:
        """Make a reference series of spectra with known state of charge.

        Parameters
        ----------
        *names : str or LibraryEntry
            ``NAME``, ``NAME@VERSION``, or what `find` returned; by default all of that edge and composition that have a
            state of charge.
        edge, composition : str, optional
            As for `find`; with names, the edge that they must have.

        Returns
        -------
        ReferenceSeries
            Its ``sources`` name entries and versions.

        Raises
        ------
        ReferenceLibraryError
            There is no such entry, one has no state of charge or no calibration, is of another edge or damaged, or
            they were calibrated by different conventions.
        ReferenceFileError
            Fewer than two, the same state of charge twice, or no energies in common.
        """
        if names:
            entries = [name if isinstance(name, LibraryEntry) else self.get(name) for name in names]
        else:
            entries = [
                entry for entry in self.find(edge=edge, composition=composition) if entry.soc is not None
            ]
        if len(entries) < 2:
            raise ReferenceLibraryError(
                f"a series needs two spectra or more with a state of charge; the reference library has {len(entries)} "
                f"of {composition or 'any composition'} at {edge or 'any edge'}."
            )
        check_together(entries, None if edge is None else edge_name(edge))
        return join_spectra([known_spectrum(entry) for entry in entries])

    def _container(self, *, create: bool = False) -> Any:
        if CONTAINER not in self._client:
            if not create:
                return None
            try:
                self._client.create_container(CONTAINER)
            except ClientError as error:
                if error.response.status_code != _CONFLICT:  # else somebody has just created it
                    raise
        return self._client[CONTAINER]

    def _versions(self, name: str) -> tuple[list[LibraryEntry], dict[int, ReferenceLibraryError]]:
        """Return the versions of a spectrum, and what is wrong with those that are damaged, by version."""
        entries, damaged = self._entries(check_name(name))
        if not entries and not damaged:
            known = [entry.name for entry in self.find()]
            raise ReferenceLibraryError(
                f"there is no {name!r} in the reference library; it has {', '.join(known) or 'no entries yet'}."
            )
        return sorted(entries, key=lambda entry: entry.version), {
            version: error for (_, version), error in damaged.items()
        }

    def _entries(
        self, name: str | None = None
    ) -> tuple[list[LibraryEntry], dict[tuple[str, int], ReferenceLibraryError]]:
        """Return the entries that were written as a whole, and what is wrong with the others by name and version."""
        entries: list[LibraryEntry] = []
        damaged: dict[tuple[str, int], ReferenceLibraryError] = {}
        try:
            held = self._container()
            nodes: Any = [] if held is None else held.items() if name is None else _of_name(held, name)
            for key, node in nodes:
                if not node.metadata.get("whole", True):
                    continue
                try:
                    entries.append(LibraryEntry.from_node(key, node))
                except ReferenceLibraryError as error:
                    damaged[_split_key(key)] = error
        except (ClientError, httpx.HTTPError) as error:
            raise ReferenceLibraryError(
                f"the reference library cannot be read ({_reason(error)}); check the Tiled server."
            ) from error
        return entries, damaged

    def __repr__(self) -> str:
        return f"ReferenceLibrary({self._client.uri})"


def split_version(text: str) -> tuple[str, int | None]:
    """Split ``NAME`` or ``NAME@VERSION``.

    Raises
    ------
    ReferenceLibraryError
        The version is no number.
    """
    name, mark, version = text.partition(VERSION_MARK)
    if not mark:
        return name, None
    if not version.isascii() or not version.isdigit():
        raise ReferenceLibraryError(f"{text!r} names no version; write NAME{VERSION_MARK}NUMBER.")
    return name, int(version)


def _of_name(held: Any, name: str) -> list[tuple[str, Any]]:
    """Return the nodes of a name, found by their keys: a damaged one may have lost its name."""
    return [(key, held[key]) for key in held if _split_key(key)[0] == name]


def _split_key(key: str) -> tuple[str, int]:
    name, _, version = key.rpartition(VERSION_MARK)
    return (name, int(version)) if name and version.isascii() and version.isdigit() else (key, 0)


def _order(entry: LibraryEntry) -> tuple[Any, ...]:
    state = entry.soc if entry.soc is not None else entry.valence
    return entry.edge, entry.composition.casefold(), float("inf") if state is None else state, entry.name


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
