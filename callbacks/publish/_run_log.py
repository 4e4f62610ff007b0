"""All documents of one run in order: on disk first, and in memory what is still to be delivered."""

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from callbacks.documents import (
    AnyDocument,
    FileLock,
    NamedDocument,
    Owner,
    Record,
    RecordStore,
    Spool,
    is_alive,
    others_alive,
    owner_of,
)
from callbacks.errors import DamagedSpoolError, OwnedSpoolError, SpoolError

logger = logging.getLogger("nimco.callbacks")

SUFFIX = ".run"
DAMAGED = ".damaged"
KEPT = ".kept"

_PLAIN_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_RETRY_S = 0.25
_TAKING_OVER = ".taking-over.lock"
_TAKING_OVER_S = 10.0


def file_stem(uid: str) -> str:
    """Return what the files of a run are called: its uid, or a digest of one that is no usual uid."""
    if _PLAIN_UID.fullmatch(uid):
        return uid
    return f"run-{hashlib.sha256(uid.encode('utf-8', 'backslashreplace')).hexdigest()[:40]}"


class RunLog:
    """Keeps the documents of a run until all of them have been delivered.

    Every document is written to a file before it may be delivered, so neither a dead server nor a killed
    process loses it. What cannot be written (a full disk, a folder that is read-only, no descriptors left) stays in
    memory, and is written when that has become possible. The file is not open between two documents.

    Parameters
    ----------
    path : Path
        The file. One that is there is taken over with what it holds, unless its owner is alive.
    owner : Owner, optional
        Whom the file belongs to; by default a new one.

    Raises
    ------
    OwnedSpoolError
        The file belongs to another process.
    DamagedSpoolError
        It is none of ours, or of another version.
    SpoolError
        It is there and cannot be read.
    """

    def __init__(self, path: Path, owner: Owner | None = None) -> None:
        self._path = path
        self._owner = owner or Owner(path.parent)
        self._store = RecordStore(self._new_spool)
        self._records: list[Record] = []
        self._unwritten = 0
        self._next_try = 0.0
        self._is_held = False
        self.damage: str | None = None
        """What is wrong with a file that was taken over: its records, or numbers that are missing."""
        if os.path.lexists(path):
            self._take_over()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def memory_nbytes(self) -> int:
        """Memory that the documents take."""
        return self._store.memory_nbytes

    @property
    def n_unwritten(self) -> int:
        """Number of documents that are in memory only."""
        return self._unwritten

    def append(self, name: str, doc: AnyDocument, *, keep: bool) -> SpoolError | None:
        """Add a document; ``keep`` it in memory too. Returns the error when it could only be kept in memory."""
        self.write_waiting()
        record = self._store.add(name, doc)
        self._records.append(record)
        problem = self._write(record)
        if problem is None and not keep:
            self._store.release(record)
        return problem

    def write_waiting(self) -> None:
        """Write what could not be written before, where that is possible by now."""
        if not self._unwritten or time.monotonic() < self._next_try:
            return
        for record in self._records:
            if not record.is_on_disk and self._write(record, again=True) is not None:
                return

    def read(self, index: int) -> NamedDocument:
        """Return a document by its number.

        Raises
        ------
        DamagedSpoolError
            It is not as it was written.
        SpoolError
            It cannot be read now.
        """
        return self._store.read(self._records[index])

    def __iter__(self) -> Iterator[NamedDocument]:
        return (self.read(index) for index in range(len(self)))

    def release_copy(self, index: int) -> None:
        """Forget the copy in memory of a document that is on disk."""
        self._store.release(self._records[index])

    def drop(self, index: int) -> None:
        """Forget a document that is damaged."""
        self.damage = self.damage or "a document in it is damaged"
        self._store.forget(self._records.pop(index))

    def close(self, *, delete: bool, keep_as: str | None = None) -> Path | None:
        """Let go of the file; with ``delete``, remove it, because everything has been delivered.

        A file that is damaged is not removed but gets the suffix for that, one that is to be kept another suffix; its
        new path is returned.
        """
        aside: Path | None = None
        if not delete:
            self._next_try = 0.0
            self.write_waiting()
        elif self._store.has_file:
            suffix = DAMAGED if self.damage else keep_as
            if suffix is None:
                self._store.close()
            else:
                aside = set_aside(self._path, suffix)
        if self._is_held:
            self._is_held = False
            self._owner.let_go()
        return aside

    def _write(self, record: Record, *, again: bool = False) -> SpoolError | None:
        try:
            self._store.write(record)
        except SpoolError as error:
            self._next_try = time.monotonic() + _RETRY_S
            self._unwritten += not again
            return error
        self._unwritten -= again
        return None

    def _new_spool(self) -> Spool:
        self._hold()
        if os.path.lexists(self._path):
            raise SpoolError(f"{self._path} is there already")
        try:
            return Spool(self._path, owner=self._owner.token)
        except SpoolError:
            with contextlib.suppress(OSError):  # made, but not even its first bytes could be written
                self._path.unlink()
            raise

    def _hold(self) -> None:
        if not self._is_held:
            self._owner.hold()
            self._is_held = True

    def _take_over(self) -> None:
        folder = self._path.parent
        try:
            token = owner_of(self._path)
            # Where the file does not say whom it belongs to, it may belong to anybody who is alive.
            owned = others_alive(folder, self._owner.token) if token is None else is_alive(folder, token)
        except OSError as error:
            raise SpoolError(f"{self._path} cannot be read ({error.strerror})") from error
        if owned:
            raise OwnedSpoolError(f"{self._path} belongs to another process")
        spool = Spool(self._path, writable=False)
        with contextlib.suppress(
            SpoolError, OSError
        ):  # a disk that can only be read: what is in it is delivered
            self._hold()
            spool.claim(self._owner.token)
        self.damage = spool.content.damage
        self._records = self._store.take_over(spool)
        found = {record.number for record in self._records}
        missing = (max(found) + 1 - len(found)) if found else 0
        if not found and self.damage is None:
            self.damage = "there is no document in it"
        if missing and self.damage is None:
            self.damage = f"{missing} document(s) in it are missing"


def logs_left_behind(
    folder: Path, owner: Owner | None = None, say: Callable[[str], object] = logger.error
) -> list[RunLog]:
    """Take over the logs in a folder that no living process holds.

    Parameters
    ----------
    folder : Path
        Where to look.
    owner : Owner, optional
        Whom they belong to from now on; by default a new one.
    say : callable
        Told what cannot be taken over: that is set aside under another name, or stays where it cannot be read now.
    """
    owner = owner or Owner(folder)
    found: list[RunLog] = []
    try:
        paths = [path for path in folder.iterdir() if path.name.endswith(SUFFIX)]
    except OSError:
        return found
    taking_over = FileLock(folder / _TAKING_OVER)
    if paths:
        with contextlib.suppress(OSError):  # a folder that can only be read
            taking_over.acquire(_TAKING_OVER_S)
    try:
        for path in sorted(paths, key=_age):
            try:
                found.append(RunLog(path, owner))
            except OwnedSpoolError:
                continue  # its process is alive and delivers it itself
            except DamagedSpoolError as error:
                say(f"{error}; {describe_set_aside(set_aside(path, DAMAGED))}, the other runs are delivered")
            except SpoolError as error:
                say(f"{error}; it stays for the next session, the other runs are delivered")
        with contextlib.suppress(OSError):
            others_alive(folder, owner.token)
    finally:
        taking_over.release()
    return found


def describe_set_aside(path: Path | None) -> str:
    """Say where a file is that was set aside, or could not be."""
    return "it stays where it is" if path is None else f"it is set aside as {path.name}"


def set_aside(path: Path, suffix: str) -> Path | None:
    """Give a file another suffix; return its new path, None where that is not possible."""
    for number in range(1000):
        new = path.with_name(f"{path.name.removesuffix(SUFFIX)}{f'-{number}' if number else ''}{suffix}")
        if not os.path.lexists(new):
            try:
                return path.rename(new)
            except OSError:
                return None
    return None


def _age(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
