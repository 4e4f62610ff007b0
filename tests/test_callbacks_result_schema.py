"""The schema that every result of a technique follows."""

import numpy as np
import pytest

from callbacks import CallbackError
from callbacks.results import Field, ResultSchema

SCHEMA = ResultSchema(
    "Toy",
    "1",
    (
        Field("current_a", ("energy",), "float64", "A", "photocurrent"),
        Field("current_sigma_a", ("energy",), "float64", "A", "its standard deviation", "sigma", "current_a"),
        Field("image", ("row", "column"), "float32", "counts", "a picture", "quality"),
    ),
)


def test_a_result_has_units_meaning_and_dimensions_and_cannot_be_written_into():
    values = np.arange(3.0)
    result = SCHEMA.make({"current_a": values, "image": [[1, 2]]}, {"raw_uid": "u"})
    assert result["current_a"].dims == ("energy",)
    assert result["current_a"].attrs == {"units": "A", "long_name": "photocurrent", "role": "value"}
    assert result["image"].dtype == np.float32
    assert "current_sigma_a" not in result
    assert result.attrs == {"raw_uid": "u", "spec": "Toy", "schema_version": 1, "signal": "current_a"}
    with pytest.raises(ValueError, match="read-only"):
        result["current_a"].values[0] = 5
    values[0] = 7  # the maker's own array is its own


def test_fields_find_each_other():
    assert SCHEMA.related("current_a", "sigma") is SCHEMA["current_sigma_a"]
    assert SCHEMA.related("image", "sigma") is None
    assert [field.name for field in SCHEMA.along("energy")] == ["current_a", "current_sigma_a"]
    with pytest.raises(KeyError):
        SCHEMA["nothing"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"other": [1.0]}, "no field 'other'"),
        ({"image": [1.0]}, r"shape \(1,\)"),
        ({"current_a": [1.0], "current_sigma_a": [1.0, 2.0]}, "do not fit together"),
    ],
)
def test_what_does_not_follow_the_schema_is_refused(values, said):
    with pytest.raises(CallbackError, match=said):
        SCHEMA.make(values, {})


@pytest.mark.parametrize(
    "name",
    [
        "version",
        "current",
        "written_by",
        "contents",
        "copying",
        "spec",
        "schema_version",
        "signal",
        "history",
    ],
)
def test_attributes_that_would_be_lost_in_tiled_are_refused(name):
    history = Field("steps", ("step",), "float64", "", "a history", storage="metadata", path="history/steps")
    schema = ResultSchema("Toy", "1", (*SCHEMA, history))
    with pytest.raises(CallbackError, match=f"attribute '{name}'.*give it another"):
        schema.make({"current_a": [1.0]}, {"raw_uid": "u", name: 1})


def test_a_schema_that_contradicts_itself_is_refused():
    field = SCHEMA["current_a"]
    with pytest.raises(CallbackError, match="two fields of the name current_a"):
        ResultSchema("Toy", "1", (field, field))
    with pytest.raises(CallbackError, match="belongs to 'current_a', which is none"):
        ResultSchema("Toy", "1", (SCHEMA["current_sigma_a"],))
