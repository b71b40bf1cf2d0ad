"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
from browser_fixture import _browser, chromium  # noqa: F401 (fixtures for every test package)

os.environ.setdefault("OMP_NUM_THREADS", "2")

from t4d.paths import shared_dir


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared development folder (data/, fixtures/); skips where it is absent."""
    path = shared_dir()
    if path is None:
        pytest.skip("shared development data is absent: set T4D_SHARED or place ../shared beside the repository")
    return path
