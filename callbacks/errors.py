"""What can go wrong between a document and a published map."""

from scan_contract import ContractError


class CallbackError(RuntimeError):
    """A run that cannot be analysed, or a result that cannot be delivered or read; the text says what to do."""


class DocumentError(CallbackError, ContractError):
    """A document that does not say what the analysis needs (no contract, no image, ...)."""


class FrameError(CallbackError):
    """A frame that cannot be used: another shape, no flat field, a file that never came."""


class MissingFrameError(FrameError):
    """A frame whose file does not come, or does not hold it, within the time allowed."""

    OUTLOOK = "; the analysis goes on without it and looks once more when the run ends"


class ReadingError(CallbackError):
    """Maps that cannot be found or read back from Tiled."""


class SpoolError(CallbackError):
    """Documents that cannot be kept on disk."""


class DamagedSpoolError(SpoolError):
    """A file of documents that is not as it was written, or is none."""


class OwnedSpoolError(SpoolError):
    """A file of documents that another process is using."""


class DeliveryError(CallbackError):
    """A run or a map that could not be delivered to Tiled (yet)."""


class StreamError(CallbackError):
    """Documents from another process that cannot be had or understood."""


class DroppedDocumentsError(CallbackError):
    """Documents that were lost on the way between two processes."""


class ExportError(CallbackError):
    """Maps that cannot be written to a file."""
