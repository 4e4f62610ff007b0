"""What a reanalysis has done so far, kept in the data directory until it is published."""

import contextlib
import hashlib
import json
import os
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from callbacks.documents import FileLock, private_folder
from callbacks.techniques import StackedScan
from nimco._stored_runs import StoredScanJob, read_job
from nimco.errors import NimcoError

_FRAMES, _SCAN, _TOKEN = "frames.f32", "scan", ".token"
_LOCK_WAIT_S = 3600.0


def short_hash(*about: Any) -> str:
    """Return a name for something that is said in plain data, or in what prints the same each time."""
    text = json.dumps(about, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StoreAddress:
    """Where the store of a reanalysis is, for processes that may or may not see it.

    Attributes
    ----------
    folder : Path
        The folder.
    token : str
        What a file in it says: another machine may have a folder of that name.
    """

    folder: Path
    token: str

    def open(self) -> "ReanalysisStore":
        """Return the store, or where it is out of sight one of this worker's own, which ends with the worker."""
        with contextlib.suppress(OSError):
            if (self.folder / _TOKEN).read_text() == self.token:
                return ReanalysisStore(self.folder)
        return ReanalysisStore(_folder_of_worker() / f"nimco-{self.token}")


class ReanalysisStore:
    """A folder with the corrected frames of runs, and with the tiles of each fit that are done.

    What is in it was written by the same user and is read again with pickle, so nobody else may write there: it is
    its owner's alone. Files appear as a whole or not at all.

    Parameters
    ----------
    folder : Path
        The folder, made where it is missing.

    Raises
    ------
    NimcoError
        It cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            private_folder(folder)
            if not (folder / _TOKEN).exists():
                self._write(folder / _TOKEN, secrets.token_hex(16).encode())
        except OSError as error:
            raise NimcoError(
                f"{folder} cannot be written ({error.strerror}); name another folder with --data-dir."
            ) from error

    @property
    def address(self) -> StoreAddress:
        """How other processes find it."""
        return StoreAddress(self.folder.absolute(), (self.folder / _TOKEN).read_text())

    @contextmanager
    def held(self, name: str, wait_s: float = 0.0) -> Iterator[None]:
        """Keep others from working on something meanwhile.

        Raises
        ------
        NimcoError
            Somebody does.
        """
        lock = FileLock(self.folder / f".{name}.lock")
        if not lock.acquire(wait_s):
            raise NimcoError(
                f"Another nimco reanalyse works on this run with {self.folder} (lock {name}); wait for it, or name "
                "another folder with --data-dir."
            )
        try:
            yield
        finally:
            lock.release()

    def scan(
        self, job: StoredScanJob, name: str, on_document: Callable[[str], object] = lambda document: None
    ) -> tuple[StackedScan | xr.Dataset, Path]:
        """Return a run and the file with its frames; it is read from Tiled where it is not here yet.

        Raises
        ------
        NimcoError, CallbackError
            As `read_job`.
        """
        folder = self.folder / name
        frames = folder / _FRAMES
        if (found := self._scan_in(folder)) is not None:
            return found, frames
        with self.held(f"reading-{name}", _LOCK_WAIT_S):
            if (
                found := self._scan_in(folder)
            ) is not None:  # another one of this machine has read it meanwhile
                return found, frames
            private_folder(folder)
            read = read_job(job, frames, on_document=on_document)
            self._write(folder / _SCAN, pickle.dumps(read))
        return read, frames

    def scan_path(self, name: str) -> Path:
        """Return where the frames of a run are, or would be."""
        return self.folder / name / _FRAMES

    def keep(self, name: str, part: str, value: Any) -> None:
        """Keep a part of a run's analysis."""
        self._write(self.folder / name / part, pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))

    def write_text(self, name: str, text: str) -> None:
        """Keep a text beside the runs."""
        self._write(self.folder / name, text.encode())

    def kept(self, name: str, part: str) -> Any:
        """Return a part that was kept; None where there is none, or it cannot be read."""
        return _unpickled(self.folder / name / part)

    def remove(self, name: str) -> None:
        """Let go of a run."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _scan_in(self, folder: Path) -> StackedScan | xr.Dataset | None:
        found = _unpickled(folder / _SCAN)
        if isinstance(found, StackedScan):
            whole = 4 * (1 + max(found.places)) * found.shape[0] * found.shape[1]
            frames = folder / _FRAMES
            return found if frames.is_file() and frames.stat().st_size >= whole else None
        return found if isinstance(found, xr.Dataset) else None

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            part.write_bytes(content)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise NimcoError(
                f"{path.parent} cannot be written ({error.strerror}): what was kept there stays; make room, or name "
                "another folder with --data-dir, and give the command again."
            ) from error


def _unpickled(path: Path) -> Any:
    try:
        return pickle.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except Exception:  # of another version, or not whole: pickle raises whatever comes up
        path.unlink(missing_ok=True)
        return None


def _folder_of_worker() -> Path:
    try:
        from distributed import get_worker

        return Path(get_worker().local_directory)
    except (ImportError, ValueError):  # none of dask's
        return Path(tempfile.gettempdir())
