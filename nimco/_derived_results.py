"""Results that are made of those of several runs, such as series and mosaics: into containers of their own in Tiled."""

from typing import Any

import httpx
import xarray as xr
from tiled.client.utils import ClientError

from callbacks import DeliveryError, SOCPublisher
from nimco._session import deliver
from nimco.errors import NimcoError

_DELIVERY_TIMEOUT_S = 120.0


def publish_derived(client: Any, container: str, result: xr.Dataset) -> str:
    """Publish a result into a container beside ``raw`` and ``maps``, which is made where it is missing.

    Returns
    -------
    str
        Its path.

    Raises
    ------
    NimcoError
        Tiled does not take it.
    """
    if container not in client:
        try:
            client.create_container(container)
        except ClientError as error:
            if error.response.status_code != httpx.codes.CONFLICT:  # else somebody has just created it
                raise NimcoError(
                    f"Tiled does not let a container {container!r} be made (status {error.response.status_code}): use "
                    "a key that may write, or --no-publish."
                ) from error
    publisher = SOCPublisher(client[container])
    try:
        publisher(result)
        deliver(publisher, _DELIVERY_TIMEOUT_S)
        refused = [error for error in publisher.errors if not isinstance(error, DeliveryError)]
        if refused or publisher.backlog:
            reason = str(refused[-1]) if refused else f"it took nothing for {_DELIVERY_TIMEOUT_S:g} s"
            raise NimcoError(
                f"The {container} did not get into Tiled: {reason}; the maps it is made of are as they were: give the "
                "command again once the server takes it."
            )
    finally:
        publisher.close(timeout_s=0.0)
    return f"{container}/{result.attrs['raw_uid']}/{result.attrs['edge']}"
