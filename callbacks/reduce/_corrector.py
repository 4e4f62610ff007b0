"""The reducer for transmission: counts to optical depth, each frame with its darks and flats."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from callbacks.documents import FrameLoss, LeftOut, Reading, SaturationWatch, Slot, energies_text
from callbacks.errors import SpoolError
from scan_contract import FullFieldContract

from ._corrected_frame import CorrectedFrame, Correction
from ._flat_field import DarksAndFlats
from ._image_store import HeldFrame, ImageStore
from ._light import LEAST_OF_BRIGHTEST
from ._reducer import Item, Reduced, Retraction
from ._spectra import counting_variance, finite_mean, optical_depth, sampled_pixels
from ._spike_watch import SpikeWatch, confirmed_spikes, spikes_of_lone_flat

# A share of pixels without open beam that is worth a word.
_WARNING_SHARE = 0.01
_WITHOUT_LIGHT = "no light above the dark"
# A sample lets less through than the open beam holds; a flat may be taken when the ring held less than before.
_MOST_OF_OPEN_BEAM = 10.0


@dataclass(frozen=True)
class _Given:
    """What was given of a slot; its values can be had again from its correction."""

    correction: Correction = field(repr=False)
    weight: float
    transmission: float
    beamless_share: float
    is_saturated: bool
    n_spikes: int


class FlatFieldCorrector:
    """Reducer from the frames of a camera to optical depth.

    A frame goes on as soon as its darks and flats have come. When a frame, a flat or a dark is taken again, when a flat
    turns out to hold no light, or when counts turn out to be clipped, each frame concerned is retracted as it was given
    and given anew. The weight is that of counting statistics; frames as noisy as the first have weight one.

    Parameters
    ----------
    contract : FullFieldContract
        What the start document announced.
    fused : bool
        What the values are. True: a `CorrectedFrame`, counts with their dark and flat, which the fit corrects and
        projects in one pass over the pixels; the way to go where the estimator is next. False: the optical depth
        itself, float32, (rows, cols), for a reducer that follows and needs it, such as a registration; it costs one
        more array and one more pass per frame. Whoever puts the reducers together chooses
        (`callbacks.techniques.Technique`).
    left_out : LeftOut, optional
        Where frames that are left out are noted; by default an account of its own.
    store : ImageStore, optional
        What holds the frames; by default one of its own.
    find_spikes : bool
        Whether pixels are looked for that stick out of frames and flats, by comparing the frames of the run with each
        other: not where the sample turns from frame to frame.

    Attributes
    ----------
    saturation : SaturationWatch
        Knows the limit of the camera.
    """

    def __init__(
        self,
        contract: FullFieldContract,
        *,
        fused: bool = True,
        left_out: LeftOut | None = None,
        store: ImageStore | None = None,
        find_spikes: bool = True,
    ) -> None:
        self._find_spikes = find_spikes
        self.saturation = SaturationWatch()
        self._left_out = LeftOut() if left_out is None else left_out
        self._n_flats = contract.n_flats
        self._n_energies = len(contract.energies_ev)
        self._fused = fused
        self._pairs = DarksAndFlats(contract, store, left_out=self._left_out, saturation=self.saturation)
        self._given: dict[Slot, _Given] = {}
        self._stuck: dict[Slot, Reading] = {}
        self._unit_variance: float | None = None
        self._pixels: npt.NDArray[np.intp] | None = None
        self._frame_spikes = SpikeWatch()
        self._flat_spikes = SpikeWatch()
        self._are_spikes_confirmed = False

    @property
    def warnings(self) -> list[str]:
        """What a reader of the maps should know, as things are now."""
        said = [*self._pairs.warnings, *self.saturation.warnings()]
        share = max((given.beamless_share for given in self._given.values()), default=0.0)
        if share >= _WARNING_SHARE:
            said.append(
                f"in {100 * share:.3g} % of the pixels the flat field holds no light above the dark "
                "(out of the field of view, or a dark taken with light): they have no value"
            )
        n_spikes = sum(given.n_spikes for given in self._given.values())
        if n_spikes and self._are_spikes_confirmed:
            said.append(
                f"{n_spikes} values stick out of their frame or flat field (cosmic rays, pixels hot for one frame): "
                "they count as missing"
            )
        if self._stuck:
            energies = sorted({reading.energy_ev for reading in self._stuck.values()})
            many = len(energies) > 1
            said.append(
                f"the frame{'s' if many else ''} at {energies_text(energies)} {'are' if many else 'is'} in the map as "
                "first corrected, which would have to be changed: what is needed for that cannot be read back from the "
                "disk; analyse the stored run anew"
            )
        return said

    @property
    def waiting(self) -> set[Slot]:
        """Slots of the sample frames that wait for a dark or a flat."""
        return self._pairs.waiting_slots

    @property
    def is_provisional(self) -> bool:
        """Whether a frame was given with the flat of another energy because its own was never taken."""
        return self._pairs.lacks_flats

    def add(self, item: Item) -> Iterator[Item]:
        """Take one frame, or the loss of one, and return what can go on."""
        if isinstance(item, FrameLoss):
            yield from self._give(self._pairs.refuse(item))
            yield item
        elif isinstance(item, Reading):
            yield from self._add(item)
        else:
            yield item

    def correct(self, correction: Correction) -> CorrectedFrame:
        """Correct a frame again with the darks and flats with which it was given."""
        return self._pairs.correct(correction)

    def again(self, slot: Slot) -> Reduced | None:
        """Return the frame of a slot once more as it was given; None if there is none."""
        given = self._given.get(slot)
        if given is None:
            return None
        frame = self._pairs.correct(given.correction)
        return self._item(frame, given.weight, *self._sample(frame))

    def finish(self) -> Iterator[Item]:
        """Give the frames that still wait, with the nearest dark and flat; retract those with next to no light."""
        yield from self._give(self._pairs.finish())
        yield from self._retract_dim()
        yield from self._retract_saturated()
        if self._pairs.take_revised():
            yield from self._revise()
        if not self._find_spikes:
            return
        yield from self._change_spikes(self._lone_flat_spikes())
        yield from self._change_spikes(confirmed_spikes(self._corrections, self._pairs.correct))
        self._are_spikes_confirmed = True

    def reopen(self) -> None:
        """Take further frames after `finish`, of a run that resumes the one that ended."""
        self._are_spikes_confirmed = False
        self._pairs.reopen()

    def close(self) -> None:
        """Let go of all frames."""
        self._pairs.close()
        self._given.clear()

    def _add(self, reading: Reading) -> Iterator[Item]:
        self.saturation.state(reading.saturation_counts)
        if reading.stream != "dark" and self.saturation.look(reading.image, reading.exposure_s):
            yield from self._revise()
        held = self._pairs.hold(reading)
        if reading.stream == "flat" and self._find_spikes:
            # With another energy the beam has another intensity and no other pattern of single pixels.
            yield from self._change_spikes(self._flat_spikes.look(held, self._pairs.light(reading)))
        yield from self._give(self._pairs.add(reading, held))
        if self._pairs.take_revised():
            yield from self._revise()

    def _give(self, frames: Iterable[CorrectedFrame]) -> Iterator[Item]:
        """Give frames that are complete; a later attempt replaces what was given of its slot."""
        for frame in frames:
            slot = frame.reading.slot
            before = self._given.get(slot)
            if before is not None and frame.reading.attempt <= before.correction.held.reading.attempt:
                continue
            if not self._has_light(frame):
                continue
            if before is not None:
                retraction = self._retraction(slot)
                if retraction is None:
                    continue
                yield retraction
            yield from self._look_for_spikes(frame)
            yield self._reduced(frame)

    def _look_for_spikes(self, frame: CorrectedFrame) -> Iterator[Item]:
        """Note pixels that stick out of a frame before it is given; give earlier ones anew that can be judged now."""
        held = frame.correction.held
        if held.spikes is None and self._find_spikes:
            light = np.subtract(frame.reading.image, frame.dark, dtype=np.float32)
            yield from self._change_spikes(self._frame_spikes.look(held, light))

    def _change_spikes(self, changes: Mapping[HeldFrame, npt.NDArray[np.int64]]) -> Iterator[Item]:
        """Note other pixels that stick out of frames or flats, and give the frames anew that they are of."""
        if not changes:
            return
        stuck: set[HeldFrame] = set()
        again = []
        for slot, given in list(self._given.items()):
            correction = given.correction
            concerned = {held for held in (correction.held, *correction.flats) if held in changes}
            if not concerned:
                continue
            if (retraction := self._retraction(slot)) is None:
                stuck |= concerned
            else:
                yield retraction
                again.append(correction)
        for held, pixels in changes.items():
            if held not in stuck:
                held.spikes = pixels
        self._pairs.forget_flats()
        for correction in again:
            yield self._reduced(self._pairs.correct(correction))

    @property
    def _corrections(self) -> list[Correction]:
        return [given.correction for given in self._given.values()]

    def _lone_flat_spikes(self) -> dict[HeldFrame, npt.NDArray[np.int64]]:
        """Return the pixels that stick out of the only flat there is."""
        if self._flat_spikes.n_looked != 1:
            return {}
        return spikes_of_lone_flat(self._corrections, self._pairs.correct)

    def _revise(self) -> Iterator[Item]:
        """Give the frames anew whose darks, flats or limits are no longer those with which they were given."""
        for slot, given in list(self._given.items()):
            before = given.correction
            now = self._pairs.current(before.held)
            if now in (before, before.without_lost()):
                continue
            retraction = self._retraction(slot)
            if retraction is None:
                continue
            yield retraction
            frame = self._pairs.correct_again(before.held)
            if frame is not None and self._has_light(frame):
                yield self._reduced(frame)

    def _retract_dim(self) -> Iterator[Item]:
        """Retract frames with next to no light beside the others, such as through a closed shutter that leaks."""
        if not self._given:
            return
        bright = float(np.percentile([given.transmission for given in self._given.values()], 90))
        for slot, given in list(self._given.items()):
            if given.transmission < LEAST_OF_BRIGHTEST * bright:
                retraction = self._retraction(slot)
                if retraction is not None:
                    self._leave_out(given.correction.held.reading, _WITHOUT_LIGHT)
                    yield retraction

    def _retract_saturated(self) -> Iterator[Item]:
        """Retract frames that are saturated in every pixel, unless most are: they would cost each pixel its value."""
        saturated = [slot for slot, given in self._given.items() if given.is_saturated]
        if 2 * len(saturated) > len(self._given):
            return
        for slot in saturated:
            reading = self._given[slot].correction.held.reading
            retraction = self._retraction(slot)
            if retraction is not None:
                yield retraction
                self._leave_out(reading, "saturated in every pixel")

    def _has_light(self, frame: CorrectedFrame) -> bool:
        if frame.transmission > _MOST_OF_OPEN_BEAM:
            reading = frame.reading
            self._leave_out(
                reading,
                f"more than {_MOST_OF_OPEN_BEAM:g} times the light of the open beam at an incident intensity of "
                f"{reading.i0:.3g}",
            )
            return False
        if frame.transmission > 0:
            return True
        self._leave_out(frame.reading, _WITHOUT_LIGHT)
        return False

    def _leave_out(self, reading: Reading, reason: str) -> None:
        self._left_out.add(
            FrameLoss(reading.slot, reading.attempt, reading.energy_ev, reading.exposure_s, reason)
        )

    def _reduced(self, frame: CorrectedFrame) -> Reduced:
        """Note a frame as given, with the weight that it gets now."""
        sample, mean_od, n_bad = self._sample(frame)
        variance = counting_variance(frame, mean_od, self._n_flats)
        if self._unit_variance is None or not self._given:
            self._unit_variance = variance
        weight = self._unit_variance / variance
        assert self._pixels is not None
        beamless_share = float(np.mean(~(frame.flat.reshape(-1)[self._pixels] > 0)))
        slot = frame.reading.slot
        self._given[slot] = _Given(
            frame.correction,
            weight,
            frame.transmission,
            beamless_share,
            is_saturated=n_bad == sample.size and self._is_saturated(frame),
            n_spikes=frame.spikes.size,
        )
        self._left_out.discard(slot)
        return self._item(frame, weight, sample, mean_od, n_bad)

    def _is_saturated(self, frame: CorrectedFrame) -> bool:
        """Whether every pixel with open beam is at the limit of the camera, as far as the sampled ones tell."""
        assert self._pixels is not None
        depth = optical_depth(frame, self._pixels)
        return bool(np.isneginf(depth).any() and np.isneginf(depth[~np.isnan(depth)]).all())

    def _retraction(self, slot: Slot) -> Retraction | None:
        """Return what takes a frame out again; None where its values cannot be had again, so that it stays."""
        given = self._given[slot]
        try:
            frame = self._pairs.correct(given.correction)
        except SpoolError:
            self._stuck[slot] = given.correction.held.reading
            return None
        del self._given[slot]
        return Retraction(self._item(frame, given.weight, *self._sample(frame)))

    def _item(
        self,
        frame: CorrectedFrame,
        weight: float,
        sample: npt.NDArray[np.float32],
        mean_od: float,
        n_bad: int,
    ) -> Reduced:
        reading = frame.reading
        return Reduced(
            label=reading.label,
            energy_ev=reading.energy_ev,
            values=frame if self._fused else optical_depth(frame).reshape(reading.image.shape),
            weight=weight,
            time_s=reading.time_s,
            notes={
                "sample": sample,
                "mean_od": mean_od,
                "bad_pixels": n_bad,
                "seq_num": reading.seq_num,
                "exposure_s": reading.exposure_s,
                "i0": reading.i0,
            },
        )

    def _sample(self, frame: CorrectedFrame) -> tuple[npt.NDArray[np.float32], float, int]:
        """Return the optical depth at the sampled pixels, NaN where it has none, its mean, and how much is NaN."""
        if self._pixels is None:
            rows, cols = frame.reading.image.shape
            self._pixels = sampled_pixels((rows, cols), self._n_energies)
        sample = optical_depth(frame, self._pixels)
        sample[~np.isfinite(sample)] = np.nan
        return sample, *finite_mean(sample)
