"""Whether an interface is for programs on this machine only."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether nobody else can connect to an interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
