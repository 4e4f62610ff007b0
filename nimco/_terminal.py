"""Whether somebody sits at a terminal that this process reads, and has pressed Enter."""

import os
import select
import sys
import termios
from contextlib import suppress

_MOST_TYPED = 4096


def is_interactive() -> bool:
    """Whether input and output are a terminal and the process is in its foreground: no pipe, service or CI."""
    try:
        typed = sys.stdin.fileno()
        return os.isatty(typed) and sys.stdout.isatty() and os.tcgetpgrp(typed) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # there is no standard input or output, or it is closed
        return False


def forget_typed() -> None:
    """Take no notice of what was typed before."""
    with suppress(termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def enter_was_pressed() -> bool:
    """Whether Enter has been pressed, or the terminal is gone; does not wait."""
    typed = sys.stdin.fileno()
    if not select.select([typed], [], [], 0)[0]:
        return False
    with suppress(OSError):
        os.read(typed, _MOST_TYPED)
    return True
