"""Telling a server that is away from one that refuses."""

import httpx


def is_outage(error: BaseException) -> bool:
    """Return whether an error says that the server is away or unwell rather than that it refuses."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.TOO_MANY_REQUESTS
    return isinstance(error, httpx.TransportError | ConnectionError)
