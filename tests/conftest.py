"""Settings that every test runs under."""

import os

import hypothesis
import pytest

# Two pytest workers with a BLAS pool each would spin against one another on two cores. This must
# happen before NumPy is imported, since OpenBLAS reads it when it loads.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Tests compile what they run, and leave nothing in the user's cache.
os.environ.setdefault("FUNTORCH_CACHE_DIR", "off")

from fake_gpu import cupy  # noqa: F401  (a fixture)

from funtorch.hardware import absence

# "ci" draws the same examples every time and has no deadline (the first call compiles); "explore"
# looks for new failures:  HYPOTHESIS_PROFILE=explore make test
STAND_IN = os.environ.get("FUNTORCH_GPU_TESTS") == "stand-in"  # run what is marked gpu, on that

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=30)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    why = absence() if marked and not STAND_IN else ""
    for item in marked if why else ():
        item.add_marker(pytest.mark.skip(reason=f"needs an NVIDIA GPU: {why}"))
