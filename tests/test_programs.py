"""Programs written for JAX give what JAX gives, after changing nothing but their imports."""

import json

import numpy as np
import pytest
from programs import EXPECTED, PROGRAMS, summary

import funtorch as ft

RECORDED = json.loads(EXPECTED.read_text(encoding="utf-8"))


def test_every_program_is_recorded():
    assert list(RECORDED) == list(PROGRAMS)
    assert len(PROGRAMS) > 60


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_gives_what_jax_gives(name):
    got, expected = summary(ft, PROGRAMS[name]()), RECORDED[name]
    assert list(got) == list(expected)
    for path, row in expected.items():
        if isinstance(row, str):
            assert got[path] == row, path
            continue
        dtype, shape, *numbers = row
        assert got[path][:2] == [dtype, shape], path
        loose = "bfloat16" in dtype or "float16" in dtype
        rtol, atol = (1e-2, 1e-2) if loose else (2e-4, 2e-5)
        for mine, theirs in zip(got[path][2:], numbers, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol, err_msg=path)
