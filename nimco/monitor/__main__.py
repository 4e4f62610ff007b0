"""The process behind `MonitorProcess`: serves on a socket that the parent has bound, until standard input ends."""

import os
import signal
import sys

from nimco.monitor import Monitor


def main() -> None:
    """Serve until standard input ends."""
    # Ctrl-C in the terminal is for the scan; the page ends when the command that started it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uri, descriptor = sys.argv[1], int(sys.argv[2])
    with Monitor(uri).start(descriptor):
        while os.read(0, 4096):
            pass


if __name__ == "__main__":
    main()
