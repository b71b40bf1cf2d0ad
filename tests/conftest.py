"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
from browser_fixture import _browser, chromium  # noqa: F401 (fixtures for every test package)

# one thread a process where pytest-xdist runs several
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

from t4d.paths import shared_dir


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared development folder (data/, fixtures/); skips where it is absent."""
    path = shared_dir()
    if path is None:
        pytest.skip("shared development data is absent: set T4D_SHARED or place ../shared beside the repository")
    return path
