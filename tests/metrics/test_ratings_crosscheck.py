"""Agreement coefficients against the GPL packages of the field; they are no dependency of anything else.

pip install -r requirements-crosscheck.txt
"""

import numpy as np
import pytest

from t4d.metrics.ratings_reliability import icc, krippendorff_alpha


@pytest.mark.parametrize("seed", range(5))
def test_alpha_against_the_krippendorff_package(seed):
    package = pytest.importorskip("krippendorff", reason="GPL extra: requirements-crosscheck.txt")
    rng = np.random.default_rng(seed)
    values = np.clip(rng.integers(1, 6, (40, 1)) + rng.integers(-2, 3, (40, 7)), 1, 5).astype(float)
    values[rng.random(values.shape) < 0.3] = np.nan
    expected = package.alpha(values.T, level_of_measurement="ordinal", value_domain=[1, 2, 3, 4, 5])
    assert krippendorff_alpha(values) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_icc_against_pingouin(seed):
    package = pytest.importorskip("pingouin", reason="GPL extra: requirements-crosscheck.txt")
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(15, 1)) + rng.normal(size=6) + rng.normal(size=(15, 6))
    targets, raters = np.indices(values.shape)
    frame = pandas.DataFrame({"t": targets.ravel(), "r": raters.ravel(), "s": values.ravel()})
    table = package.intraclass_corr(frame, targets="t", raters="r", ratings="s").set_index("Type")["ICC"]
    found = icc(values)
    for kind, value in (("(1,1)", found.one1), ("(A,1)", found.a1), ("(C,1)", found.c1)):
        assert value == pytest.approx(table[f"ICC{kind}"], abs=1e-6)
    for kind, value in (("(1,k)", found.onek), ("(A,k)", found.ak), ("(C,k)", found.ck)):
        assert value == pytest.approx(table[f"ICC{kind}"], abs=1e-6)
