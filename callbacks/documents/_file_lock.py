"""Locks between processes, and folders and files that are their owner's alone."""

import contextlib
import fcntl
import os
import re
import secrets
import threading
import time
from pathlib import Path

from callbacks.errors import SpoolError

TOKEN_BYTES = 16
NOBODY = bytes(TOKEN_BYTES)

_LOOK_S = 0.02
_TOKEN = re.compile(f"[0-9a-f]{{{2 * TOKEN_BYTES}}}")


def private_folder(path: Path) -> None:
    """Make a folder that only its owner can read, whatever the umask; one that is there is closed to others.

    Raises
    ------
    OSError
        It cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # a folder of somebody else
        path.chmod(0o700)


def open_private(path: Path, flags: int) -> int:
    """Open a file that only its owner can read, whatever the umask; a link is not followed."""
    file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if flags & os.O_CREAT:
        with contextlib.suppress(OSError):  # a file of somebody else
            os.fchmod(file, 0o600)
    return file


class FileLock:
    """An exclusive lock between processes, on a file that is there only while it is held.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Take the lock; False where somebody else holds it for all of the time allowed.

        Raises
        ------
        OSError
            The file cannot be made.
        """
        deadline = time.monotonic() + wait_s
        while True:
            file = open_private(self.path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Who held it may have removed the file between our opening and locking it.
                if os.fstat(file).st_nlink:
                    self._file = file
                    return True
                os.close(file)
                continue
            except BlockingIOError:
                os.close(file)
            except BaseException:
                os.close(file)
                raise
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_S)

    def release(self) -> None:
        """Remove the file and let the lock go."""
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(OSError):  # a disk that cannot be written: the lock goes all the same
            self.path.unlink()
        os.close(file)


class Owner:
    """Who the logs in a folder belong to: they name it, and it lives while its lock is held.

    One descriptor for any number of logs, and none while there are no logs.

    Parameters
    ----------
    folder : Path
        Where the logs are.
    """

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_bytes(TOKEN_BYTES)
        self._folder = folder
        self._lock = FileLock(_lock_path(folder, self.token))
        self._guard = threading.Lock()
        self._held = 0

    def hold(self) -> None:
        """Say that one more log belongs to this owner.

        Raises
        ------
        SpoolError
            The lock cannot be had.
        """
        with self._guard:
            if not self._held:
                try:
                    private_folder(self._folder)
                    taken = self._lock.acquire()
                except OSError as error:
                    raise SpoolError(f"cannot write the spool {self._folder} ({error.strerror})") from error
                if not taken:
                    raise SpoolError(f"the spool {self._folder} is locked by another process")
            self._held += 1

    def let_go(self) -> None:
        """Say that one log less belongs to this owner."""
        with self._guard:
            self._held -= 1
            if not self._held:
                self._lock.release()


def is_alive(folder: Path, token: bytes) -> bool:
    """Return whether the owner of a log holds its lock."""
    path = _lock_path(folder, token)
    if not path.exists():
        return False
    lock = FileLock(path)
    if not lock.acquire():
        return True
    lock.release()
    return False


def others_alive(folder: Path, token: bytes) -> bool:
    """Return whether any other owner of logs in a folder holds its lock; locks of dead ones are removed."""
    own = _lock_path(folder, token)
    tokens = [path.stem[1:] for path in folder.glob(".*.lock") if path != own]
    alive = [is_alive(folder, bytes.fromhex(text)) for text in tokens if _TOKEN.fullmatch(text)]
    return any(alive)


def _lock_path(folder: Path, token: bytes) -> Path:
    return folder / f".{token.hex()}.lock"
