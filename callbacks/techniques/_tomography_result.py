"""What a rotation series gives: volumes of the state of charge, and its projection at the last angle."""

from callbacks.results import Field, ResultSchema

_VOLUME, _IMAGE, _ANGLE = ("z", "y", "x"), ("row", "column"), ("angle",)

TOMOGRAPHY_SCHEMA = ResultSchema(
    "NimcoTomography",
    "1",
    (
        Field("soc", _VOLUME, "float32", "", "state of charge"),
        Field("soc_sigma", _VOLUME, "float32", "", "standard deviation by noise", "sigma", "soc"),
        Field("attenuation", _VOLUME, "float32", "", "optical depth per voxel, mean over the energies"),
        Field("edge_jump", _VOLUME, "float32", "", "edge jump in optical depth per voxel: density of the element"),
        Field("edge_energy_ev", _VOLUME, "float32", "eV", "edge energy"),
        Field("edge_energy_sigma_ev", _VOLUME, "float32", "eV", "standard deviation", "sigma", "edge_energy_ev"),
        Field("r_factor", _VOLUME, "float32", "", "part of the step that the fit does not explain", "quality", "soc"),
        Field("noise", _VOLUME, "float32", "", "standard deviation of a frame in a voxel", "quality", "soc"),
        Field("status", _VOLUME, "uint8", "", "edge_fitting.FitStatus; NO_DATA without material", "status", "soc"),
        Field("projected_soc", _IMAGE, "float32", "", "state of charge along the rays of one angle"),
        Field("projected_soc_sigma", _IMAGE, "float32", "", "standard deviation by noise", "sigma", "projected_soc"),
        Field("angle_deg", _ANGLE, "float64", "deg", "angle of the axis of rotation", "coordinate"),
        Field("angle_n_frames", _ANGLE, "int64", "", "projections at the angle"),
        Field("angle_mass", _ANGLE, "float64", "", "sum of the mean optical depth over the field", "quality"),
    ),
)  # fmt: skip
"""Arrays of a result of a rotation series; what cannot be told is left out or NaN."""
