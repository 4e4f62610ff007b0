"""A socket that listens."""

import socket

from nimco.errors import PortInUseError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises
    ------
    PortInUseError
        The port is taken, or the interface is none of this machine.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise PortInUseError(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "stop the program that holds the port or choose another (0 takes a free one)"
        ) from error
    return listening
