"""A client of a Tiled server that has raw runs and maps; what is wrong with it is one sentence."""

import os
from pathlib import Path
from typing import Any

import httpx
from tiled.client import from_uri

from nimco.errors import NimcoError

KEY_VARIABLE = "TILED_API_KEY"
KEY_REMEDY = f"give the file with it as --api-key-file, or set {KEY_VARIABLE}"


class RefusedKeyError(NimcoError):
    """The server needs another key, or any."""


def open_tiled(uri: str, api_key: str | None, *, remedy: str) -> Any:
    """Return a client of the root of a server.

    Parameters
    ----------
    uri : str
        Address of the server.
    api_key : str or None
        Key for it.
    remedy : str
        How whoever asks gives another key, as the end of a sentence.

    Raises
    ------
    RefusedKeyError
        It refuses the key, or needs one.
    NimcoError
        It does not answer, or has no raw runs and maps.
    """
    try:
        client = from_uri(uri, api_key=api_key)
        held = list(client)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status not in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise NimcoError(
                f"Tiled at {uri} answers with an error (status {status}); look at its log."
            ) from error
        raise RefusedKeyError(f"Tiled at {uri} refuses the key (status {status}); {remedy}.") from error
    except RuntimeError as error:  # as Tiled's client says that a key is needed
        raise RefusedKeyError(f"Tiled at {uri} needs a key; {remedy}.") from error
    except (httpx.HTTPError, ValueError, OSError) as error:
        raise NimcoError(
            f"Tiled does not answer at {uri} ({type(error).__name__}); start it with: nimco serve."
        ) from error
    for name in ("raw", "maps"):
        if name not in held:
            raise NimcoError(f"Tiled at {uri} has no container {name!r}; a server of nimco has: nimco serve.")
    return client


def given_key(api_key_file: Path | None) -> str | None:
    """Return the key in a file, or else that of the variable TILED_API_KEY.

    Raises
    ------
    NimcoError
        The file cannot be read, or is empty.
    """
    if api_key_file is None:
        return os.environ.get(KEY_VARIABLE)
    try:
        key = api_key_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NimcoError(f"The key file {api_key_file} cannot be read ({error}).") from error
    if not key:
        raise NimcoError(f"The key file {api_key_file} is empty; give the one with the server's key.")
    return key


def connect(uri: str, api_key_file: Path | None) -> Any:
    """Return a client of a Tiled server that has raw runs and maps.

    Raises
    ------
    NimcoError
        It does not answer, refuses the key, or has no such containers.
    """
    return open_tiled(uri, given_key(api_key_file), remedy=KEY_REMEDY)
