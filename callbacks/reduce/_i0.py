"""The sign of the incident intensity: current amplifiers give either, but one run has one."""

import numpy as np

from callbacks.documents import Reading

_LEAD = 2


class I0Sign:
    """Holds back the first frames until it is clear which sign the incident intensity has in this run.

    That takes two frames, fewer than a map needs.
    """

    def __init__(self) -> None:
        self._sign = 0
        self._sign_sum = 0
        self._held: list[Reading] = []

    def take(self, reading: Reading) -> list[Reading]:
        """Return the frames that can go on now, in order."""
        if self._sign or reading.stream == "dark" or not np.isfinite(reading.i0) or reading.i0 == 0:
            return [reading]
        self._held.append(reading)
        self._sign_sum += 1 if reading.i0 > 0 else -1
        return self.decide() if abs(self._sign_sum) >= _LEAD else []

    def decide(self) -> list[Reading]:
        """Go by the frames so far; return those that were held back."""
        if self._held:
            self._sign = -1 if self._sign_sum < 0 else 1
        held, self._held = self._held, []
        return held

    def problem(self, reading: Reading) -> str | None:
        """Say what is wrong with the incident intensity of a frame; None where nothing is."""
        if np.isnan(reading.i0):
            return "the incident intensity is not a number"
        if not np.isfinite(reading.i0):
            return "the incident intensity is infinite"
        if reading.i0 == 0:
            return "the incident intensity is zero"
        if self._sign and np.sign(reading.i0) != self._sign:
            sign = "negative" if self._sign > 0 else "positive"
            return f"the incident intensity is {sign}, unlike that of the others"
        return None
