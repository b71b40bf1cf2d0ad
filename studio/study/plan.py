"""Who sees what in which order: seeded, a pure function of the study file and the rater's number, balanced over raters.

Over the first n raters, for every n: every item is seen equally often within one; of every item, every method stands at
every place (slot in side-by-side layout) equally often within one; and where all see all items, every item stands at
every place equally often within one and follows every other item equally often (Williams squares).
"""

import random
import threading
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from studio.study.contract import Kind
from studio.study.schema import AttentionCheck, StudyFile


@dataclass(frozen=True)
class Planned:
    """One page of a plan.

    Attributes:
        kind: as in `contract.Page`.
        item: id of the item whose reference and prompt are shown.
        methods: in the order of the slots; empty where the check's own video is shown.
        title: as in `contract.Page`.
        result: as in `contract.Page`.
        check: id of the attention check, or None.
        repeat_of: index of the repeated page in the plan, or None.
    """

    kind: Kind
    item: str
    methods: tuple[str, ...]
    title: str
    result: int
    check: str | None = None
    repeat_of: int | None = None


def williams(n: int) -> list[list[int]]:
    """Rows of the Latin square(s) of Williams (1949), in which every ordered pair of neighbours is equally frequent.

    Args:
        n: number of treatments, at least 1.

    Returns:
        n rows for even n; for odd n 2n rows, the second n mirroring the first. Each n rows are a Latin square.
    """
    first = [0]
    for step in range(1, n):
        first.append((step + 1) // 2 if step % 2 else n - step // 2)
    rows = [[(value + shift) % n for value in first] for shift in range(n)]
    return rows if n % 2 == 0 or n == 1 else rows + [row[::-1] for row in rows]


class Planner:
    """Makes the plans of one study. Safe to call from several threads.

    Args:
        study: the study file.
    """

    def __init__(self, study: StudyFile) -> None:
        self.study = study
        self._items = [item.id for item in study.items]
        self._methods = [method.id for method in study.methods]
        self._chosen: list[list[int]] = []  # items of rater 0, 1, ... in their order
        self._before: list[list[int]] = []  # how often each of those items had been given before
        count = len(self._items)
        self._given = [0] * count
        self._together = np.zeros((count, count), int)
        self._at_place = np.zeros((count, study.rated_items), int)
        self._lock = threading.Lock()
        # Items take the square's rows from different starts, so that one rater's first places are balanced too.
        self._offsets = list(range(count))
        self._random("offsets").shuffle(self._offsets)

    def plan(self, number: int) -> list[Planned]:
        """The pages of rater ``number`` (from 0), practice first."""
        with self._lock:
            while len(self._chosen) <= number:
                self._extend()
            chosen, before = self._chosen[number], self._before[number]
        groups = [(self._items[i], self._method_order(i, k)) for i, k in zip(chosen, before)]
        return self._practice(number) + self._main(number, groups)

    def _random(self, *what: object) -> random.Random:
        return random.Random("/".join(map(str, (self.study.seed, *what))))

    def _extend(self) -> None:
        number, count, wanted = len(self._chosen), len(self._items), self.study.rated_items
        draw = self._random("items", number)
        if wanted == count:
            order = self._square_order("item order", count, number)
        else:
            chosen: list[int] = []
            for _ in range(wanted):  # the least seen first; of those, who has met the others here least
                left = [i for i in range(count) if i not in chosen]
                low = min(self._given[i] for i in left)
                left = [i for i in left if self._given[i] == low]
                met = [int(self._together[i, chosen].sum()) for i in left]
                best = [i for i, m in zip(left, met) if m == min(met)]
                chosen.append(draw.choice(best))
                self._given[chosen[-1]] += 1
            cost = self._at_place[chosen] * 1000.0 + [[draw.random() for _ in range(wanted)] for _ in range(wanted)]
            rows, places = linear_sum_assignment(cost)
            order = [chosen[row] for _, row in sorted(zip(places, rows))]
            self._together[np.ix_(order, order)] += 1
            self._at_place[order, np.arange(wanted)] += 1
            self._before.append([self._given[i] - 1 for i in order])
        if wanted == count:
            self._before.append([number] * count)
        self._chosen.append(order)

    def _square_order(self, what: str, n: int, k: int, offset: int = 0) -> list[int]:
        """Row k of an endless stack of Latin squares with seeded row orders and labels."""
        half, place = divmod(k, n)
        labels, rows = list(range(n)), list(range(n))
        self._random(what, "labels", half).shuffle(labels)
        self._random(what, "rows", half).shuffle(rows)
        square = williams(n)
        row = square[(half * n) % len(square) + rows[(place + offset) % n]]
        return [labels[value] for value in row]

    def _method_order(self, item: int, k: int) -> tuple[str, ...]:
        row = self._square_order("method order", len(self._methods), k, self._offsets[item])
        return tuple(self._methods[i] for i in row)

    def _practice(self, number: int) -> list[Planned]:
        pages = []
        for k, item in enumerate(self.study.practice_items()):
            methods = list(self._methods)
            self._random("practice", number, k).shuffle(methods)
            shown = tuple(methods if self.study.layout == "side_by_side" else methods[:1])
            pages.append(Planned("practice", item.id, shown, f"Practice {k + 1}", 1 if len(shown) == 1 else 0))
        return pages

    def _main(self, number: int, groups: list[tuple[str, tuple[str, ...]]]) -> list[Planned]:
        single = self.study.layout == "single"
        draw = self._random("specials", number)
        specials = self._gaps(draw)
        pages: list[Planned] = []
        start = len(self.study.practice)
        seen: list[tuple[int, int]] = []  # (group, index in the plan) of every page that may be repeated
        repeats = objects = 0
        for g, (item, methods) in enumerate(groups):
            objects += 1
            for result, shown in enumerate([(m,) for m in methods] if single else [methods]):
                seen.append((g, start + len(pages)))
                pages.append(Planned("item", item, shown, f"Object {objects}", result + 1 if single else 0))
            special = specials.get(g)
            if special is None:
                continue
            objects += 1
            if isinstance(special, AttentionCheck):
                near = {item} | ({groups[g + 1][0]} if g + 1 < len(groups) else set())
                pages.append(self._check(special, draw, groups, near, f"Object {objects}"))
                continue
            wanted = self._methods[(number + repeats) % len(self._methods)]
            repeats += 1
            options = [index for group, index in seen if group < g]
            exact = [index for index in options if not single or pages[index - start].methods == (wanted,)]
            index = draw.choice(exact or options)
            seen = [entry for entry in seen if entry[1] != index]
            original = pages[index - start]
            pages.append(
                Planned("repeat", original.item, original.methods, f"Object {objects}", int(single), repeat_of=index)
            )
        return pages

    def _gaps(self, draw: random.Random) -> dict[int, AttentionCheck | bool]:
        """Group after which a check (or, True, a repeat) stands: spread evenly, never two in one gap."""
        specials: list[AttentionCheck | bool] = [*self.study.checks, *[True] * self.study.repeats]
        if not specials:
            return {}
        draw.shuffle(specials)
        groups, count = self.study.rated_items, len(specials)
        # A repeat needs an object between itself and its original, so it cannot stand after the first object.
        first = 1 if all(special is True for special in specials) else 0
        edges = [first + k * (groups - first) // count for k in range(count + 1)]
        if specials[0] is True and edges[1] == 1:
            swap = next(k for k, special in enumerate(specials) if special is not True)
            specials[0], specials[swap] = specials[swap], specials[0]
        found: dict[int, AttentionCheck | bool] = {}
        for k, special in enumerate(specials):
            low = max(edges[k], 1) if special is True else edges[k]
            found[draw.randrange(low, edges[k + 1])] = special
        return found

    def _check(
        self, check: AttentionCheck, draw: random.Random, groups: list[tuple[str, tuple[str, ...]]], near: set[str],
        title: str,
    ) -> Planned:  # fmt: skip
        rated = {item for item, _ in groups}
        single = self.study.layout == "single"
        if check.video is not None:
            return Planned("check", str(check.item), (), title, int(single), check=check.id)
        spare = [i for i in self._items if i not in rated] + [
            entry.id for entry in self.study.practice if not isinstance(entry, str)
        ]
        # A video that is rated elsewhere is shown here only where there is no other.
        item = check.item or draw.choice(spare or sorted(rated - near) or sorted(rated))
        methods = list(self._methods)
        draw.shuffle(methods)
        return Planned("check", item, tuple(methods[:1] if single else methods), title, int(single), check=check.id)
