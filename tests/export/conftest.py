"""Fixtures of the export tests."""

from collections.abc import Callable

import pytest
from moving_assets import wobbling_ellipsoid

from t4d.splat.gaussians import Gaussians


@pytest.fixture
def moving_asset() -> Callable[[int], Gaussians]:
    """1500 degree-0 Gaussians over 5 frames."""
    return wobbling_ellipsoid(1500, 5)
