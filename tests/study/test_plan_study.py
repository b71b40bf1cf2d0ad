"""Plans: what every number of raters can rely on."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_samples import study_entries

from studio.study.plan import Planned, Planner, williams
from studio.study.schema import StudyFile
from t4d.errors import InputError


def make(**fields) -> StudyFile:
    return StudyFile.model_validate(study_entries(**fields))


def spread(counts: Counter, cells: list) -> int:
    values = [counts[cell] for cell in cells]
    return max(values) - min(values)


def groups(plan: list[Planned]) -> list[tuple[str, list[Planned]]]:
    """The rated objects in their order, each with its pages."""
    found: list[tuple[str, list[Planned]]] = []
    for page in plan:
        if page.kind == "item":
            if found and found[-1][0] == page.item and found[-1][1][-1].title == page.title:
                found[-1][1].append(page)
            else:
                found.append((page.item, [page]))
    return found


@pytest.mark.parametrize("n", range(1, 9))
def test_williams_squares_balance_places_and_neighbours(n):
    rows = williams(n)
    assert len(rows) == (n if n % 2 == 0 or n == 1 else 2 * n)
    for start in range(0, len(rows), n):
        half = rows[start : start + n]
        assert all(sorted(row) == list(range(n)) for row in half)
        assert all(sorted(column) == list(range(n)) for column in zip(*half))
    follow = Counter(pair for row in rows for pair in pairwise(row))
    assert len(follow) == n * (n - 1) and len(set(follow.values())) <= 1


studies = st.fixed_dictionaries(
    {
        "items": st.integers(1, 7),
        "methods": st.integers(1, 4),
        "seed": st.integers(0, 2**40),
        "layout": st.sampled_from(["single", "side_by_side"]),
        "raters": st.integers(1, 14),
        "share": st.floats(0.1, 1),
        "checks": st.integers(0, 2),
        "repeats": st.integers(0, 3),
        "practice": st.integers(0, 2),
    }
)


@settings(max_examples=60, deadline=None)
@given(studies)
def test_laws_of_plans(drawn):
    items, names = drawn["items"], tuple(f"m{k}" for k in range(drawn["methods"]))
    seen_by_one = max(1, round(items * drawn["share"]))
    fields = {
        "seed": drawn["seed"],
        "layout": drawn["layout"],
        "items_per_rater": seen_by_one,
        "checks": [{"id": f"c{k}", "answer": k + 1} for k in range(drawn["checks"])],
        "repeats": drawn["repeats"],
        "practice": [f"item{k}" for k in range(min(items, drawn["practice"]))],
    }
    fits = drawn["checks"] + drawn["repeats"] <= seen_by_one and drawn["repeats"] <= max(0, seen_by_one - 1)
    if not fits:
        with pytest.raises(ValueError, match="do not fit"):
            make(items=items, methods=names, **fields)
        return
    study = make(items=items, methods=names, **fields)
    planner = Planner(study)
    times, places, positions = Counter(), Counter(), Counter()
    single = study.layout == "single"
    for rater in range(drawn["raters"]):
        plan = planner.plan(rater)
        assert len(plan) == study.pages
        kinds = Counter(page.kind for page in plan)
        assert kinds["check"] == drawn["checks"] and kinds["repeat"] == drawn["repeats"]
        assert [page.kind == "practice" for page in plan] == sorted(page.kind == "practice" for page in plan)[::-1]
        rated = groups(plan)
        assert len({item for item, _ in rated}) == len(rated) == seen_by_one
        for position, (item, pages) in enumerate(rated):
            times[item] += 1
            positions[item, position] += 1
            order = [page.methods[0] for page in pages] if single else list(pages[0].methods)
            assert sorted(order) == sorted(names)
            assert [page.result for page in pages] == (list(range(1, len(names) + 1)) if single else [0])
            for place, method in enumerate(order):
                places[item, method, place] += 1
        main = plan[len(study.practice) :]
        assert main[0].kind == "item"
        assert not any({a.kind, b.kind} <= {"check", "repeat"} for a, b in pairwise(main))
        originals = [page.repeat_of for page in plan if page.repeat_of is not None]
        assert len(set(originals)) == len(originals)
        for index, page in enumerate(plan):
            if page.kind == "repeat":
                assert page.repeat_of is not None
                original = plan[page.repeat_of]
                assert (original.kind, original.item, original.methods) == ("item", page.item, page.methods)
                between = {p.item for p in plan[page.repeat_of + 1 : index] if p.kind == "item"} - {page.item}
                assert between, "a repeat needs another object between itself and its original"
        titles = [page.title for page in main]
        assert [title for title, before in zip(titles, [""] + titles) if title != before] == [
            f"Object {k + 1}" for k in range(seen_by_one + drawn["checks"] + drawn["repeats"])
        ]
        # The laws hold after every rater, not only after a full square.
        every = [item.id for item in study.items]
        assert spread(times, every) <= 1
        for item in every:
            for method in names:
                assert spread(places, [(item, method, place) for place in range(len(names))]) <= 1
            for place in range(len(names)):
                assert spread(places, [(item, method, place) for method in names]) <= 1
            if seen_by_one == items:
                assert spread(positions, [(item, place) for place in range(items)]) <= 1


def test_a_plan_depends_on_the_file_and_the_number_only():
    study = make(items=6, items_per_rater=4, repeats=1, checks=[{"id": "c", "answer": 1}], seed=5)
    forward = [Planner(study).plan(number) for number in range(9)]
    planner = Planner(study)
    numbers = list(range(9))
    random.Random(0).shuffle(numbers)
    assert {number: planner.plan(number) for number in numbers} == dict(enumerate(forward))
    other = Planner(study.model_copy(update={"seed": 6}))
    assert [other.plan(number) for number in range(9)] != forward


def test_one_rater_meets_the_methods_at_every_place_equally_often():
    study = make(items=20, methods=("a", "b", "c"), seed=3)
    planner = Planner(study)
    for rater in range(8):
        places = Counter((page.methods[0], page.result) for page in planner.plan(rater))
        assert spread(places, [(method, place) for method in "abc" for place in (1, 2, 3)]) <= 1


def test_items_meet_each_other_about_equally_often_in_incomplete_blocks():
    study = make(items=9, items_per_rater=3, methods=("a", "b"))
    planner, pairs = Planner(study), Counter()
    for rater in range(24):  # 24 * 3 pairs over 36: two each
        chosen = sorted({page.item for page in planner.plan(rater)})
        pairs.update((a, b) for a in chosen for b in chosen if a < b)
    assert len(pairs) == 36 and max(pairs.values()) <= 3


def test_instruction_checks_show_what_is_not_rated_where_they_can():
    check = [{"id": "c", "answer": 2}]
    planner = Planner(make(items=6, items_per_rater=3, checks=check))
    for rater in range(10):
        plan = planner.plan(rater)
        rated = {page.item for page in plan if page.kind == "item"}
        shown = [page.item for page in plan if page.kind == "check"]
        assert len(shown) == 1 and not rated & set(shown)


def test_too_many_specials_are_refused_with_a_sentence():
    from studio.study.folder import parse_study

    with pytest.raises(InputError, match=r"^s.yaml: 5 checks and repeats do not fit between 4 objects"):
        parse_study(
            study_entries(items=4, repeats=3, checks=[{"id": f"c{k}", "answer": 1} for k in range(2)]), "s.yaml"
        )
