"""Where the folders of detector files are on this machine."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

_DRIVE = re.compile(r"/?[A-Za-z]:(?=[\\/]|$)")


class RootMap:
    """Folders as documents name them, and where they are mounted here.

    Paths of Windows machines are compared without regard to case and to the kind of slash. The longest folder that
    fits counts.

    Parameters
    ----------
    roots : mapping of str to str or Path, optional
        Folder in the documents (a path, or a ``file:`` address) to folder here.
    """

    def __init__(self, roots: Mapping[str, str | Path] | None = None) -> None:
        pairs = [(pure_path(old), Path(new)) for old, new in (roots or {}).items()]
        self._pairs = sorted(pairs, key=lambda pair: -len(pair[0].parts))

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def path(self, named: str | PurePath) -> Path:
        """Return where a file is here; a path under none of the folders stays what it is."""
        pure = pure_path(named) if isinstance(named, str) else named
        for old, new in self._pairs:
            if type(old) is type(pure) and pure.is_relative_to(old):
                return new.joinpath(*pure.parts[len(old.parts) :])
        return Path(pure.as_posix())


def pure_path(named: str) -> PurePath:
    """Return a path as the machine that named it meant it: of Windows where it looks like that, else POSIX."""
    if named[:5].lower() == "file:":
        named = unquote(urlsplit(named).path)
    if _DRIVE.match(named):
        return PureWindowsPath(named.lstrip("/"))
    if named.startswith("\\\\") or ("\\" in named and "/" not in named):
        return PureWindowsPath(named)
    return PurePosixPath(named)
