"""The equation index: what is built is named in a docstring and tested, and README's table is the generated one."""

from eval.equations import REPO, covering_tests, equations_in, implementations, readme_with, table

# Grows with the product; an equation leaves this set only with its code.
BUILT = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}


def test_mentions_are_read():
    assert equations_in("Eq. 1-3 and Eq. 10; Eqs. 6, 7 but not 4") == {1, 2, 3, 6, 7, 10}


def test_every_built_equation_is_named_and_tested():
    items = implementations()
    assert {item.equation for item in items} >= BUILT
    for equation in BUILT:
        covered = [item.name for item in items if item.equation == equation and covering_tests(item.name)]
        assert covered, f"no test uses a function that implements Eq. {equation}"


def test_readme_table_is_current():
    readme = (REPO / "README.md").read_text()
    assert readme_with(table(), readme) == readme, "run: python -m eval.equations --write"
