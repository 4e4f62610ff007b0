"""The errors a user of the session or the command line can meet."""


class NimcoError(Exception):
    """A request that cannot be carried out; the text says what, where and what to do."""


class ServerError(NimcoError):
    """The embedded Tiled server cannot be started."""


class PortInUseError(ServerError):
    """Another program listens on the wanted port."""


class RecordingError(NimcoError):
    """A recorded file that cannot be read as an energy scan."""


class VolumeError(NimcoError):
    """A volume that cannot be read, written or analysed."""


class ProjectionError(NimcoError):
    """A file of projections that cannot be read as a rotation series."""


class ReferenceFileError(NimcoError):
    """A reference spectrum file that cannot be read, or spectra that make no series."""


class ReferenceLibraryError(NimcoError):
    """An entry of the reference library that is not there, cannot be added, or cannot be used as asked."""
