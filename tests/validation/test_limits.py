"""Limits: the same for the command without a server and for the server."""

import pytest
from annotated_types import Ge, Le

from brightrun.settings import Settings
from brightrun.validation.limits import BOUNDS, Limits, limits_of


def test_the_server_has_the_same_names_defaults_and_bounds() -> None:
    for name, (least, greatest) in BOUNDS.items():
        field = Settings.model_fields[name]
        assert field.default == getattr(Limits(), name)
        assert [m.ge for m in field.metadata if isinstance(m, Ge)] == [least]
        assert [m.le for m in field.metadata if isinstance(m, Le)] == [greatest]
    assert set(BOUNDS) == set(Limits._fields)


def test_variables_set_them_and_nonsense_is_named() -> None:
    assert limits_of({}) == limits_of({"BRIGHTRUN_MAX_RECORD_BYTES": ""}) == Limits()
    assert limits_of({"BRIGHTRUN_COMPARE_MEMORY_BYTES": "1048576"}).compare_memory_bytes == 1 << 20
    for wrong in ("16MB", "-1", "10", str(1 << 40)):
        with pytest.raises(ValueError, match="BRIGHTRUN_MAX_RECORD_BYTES"):
            limits_of({"BRIGHTRUN_MAX_RECORD_BYTES": wrong})
