"""Versions of a result, as the page names them: ``Ni_K`` the current one, ``Ni_K@1`` a former one."""

from typing import Any

from callbacks import ReadingError, StoredResult, soc_versions

_MARK = "@"


def base_name(name: str) -> str:
    """Return the name of a result without that of its version."""
    return name.partition(_MARK)[0]


def stored_version(client: Any, uid: str, name: str) -> StoredResult:
    """Return what is stored of a version.

    Raises
    ------
    ReadingError
        There is no such result, or no such version.
    """
    edge, _, number = name.partition(_MARK)
    if number and not number.isdigit():
        raise ReadingError(f"a version is named such as {edge}@1, not {name:.100s}")
    return StoredResult(client, uid, edge, int(number) if number else None)


def versions_of(client: Any, uid: str, name: str) -> list[dict[str, Any]]:
    """Return the versions of a result, the oldest first, as plain data."""
    edge = base_name(name)
    return [
        {
            "name": edge if held.current else f"{edge}{_MARK}{held.version}",
            "version": held.version,
            "current": held.current,
            "method": held.method,
            "analysed_s": held.analysed_s,
            "n_frames": held.n_frames,
            "references": [str(source.get("name") or "") for source in held.reference_sources],
        }
        for held in soc_versions(client, uid, edge)
    ]
