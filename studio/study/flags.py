"""Reasons to doubt a rater, and the exclusion rules that were fixed in the study file."""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from studio.study.schema import AttentionCheck, StudyFile

_SCORES = """
SELECT page.participant, page.position, page.kind, page.attention, page.repeat_of,
       (SELECT max(visit.page_s) FROM answer AS visit WHERE visit.token = page.token) AS page_s,
       score.slot, score.row, score.score
FROM current_answer AS answer JOIN page ON page.token = answer.token JOIN score ON score.answer = answer.id
WHERE page.kind != 'practice'
ORDER BY page.participant, page.position, score.slot, score.row
"""


@dataclass
class Behaviour:
    """How one rater answered.

    Attributes:
        page_s: position -> seconds of the longest visit, of all answered pages: a quick change later is no haste.
        scores: position -> {(slot, row): score}, of all answered pages.
        kinds: position -> kind.
        attention: position -> id of the check.
        repeat_of: position -> position of the original.
    """

    page_s: dict[int, float] = field(default_factory=dict)
    scores: dict[int, dict[tuple[str, str], int]] = field(default_factory=lambda: defaultdict(dict))
    kinds: dict[int, str] = field(default_factory=dict)
    attention: dict[int, str] = field(default_factory=dict)
    repeat_of: dict[int, int] = field(default_factory=dict)

    @property
    def rated(self) -> list[int]:
        """Positions of the answered pages that are not checks."""
        return [position for position, kind in self.kinds.items() if kind != "check"]

    def straight_share(self) -> float | None:
        """Share of pages on which every row has the same score; None without pages of two rows or more."""
        grids = [list(self.scores[position].values()) for position in self.rated]
        grids = [grid for grid in grids if len(grid) > 1]
        return sum(len(set(grid)) == 1 for grid in grids) / len(grids) if grids else None

    def median_s(self) -> float | None:
        """Median seconds on a page."""
        return statistics.median(self.page_s[position] for position in self.rated) if self.rated else None

    def repeat_difference(self) -> float | None:
        """Mean absolute difference between the scores of repeated pages and their originals, in levels."""
        differences = [
            abs(score - self.scores[original][cell])
            for position, original in self.repeat_of.items()
            for cell, score in self.scores[position].items()
            if cell in self.scores.get(original, {})
        ]
        return statistics.fmean(differences) if differences else None

    def failed(self, checks: dict[str, AttentionCheck]) -> list[str]:
        """Ids of the failed checks."""
        return [name for position, name in self.attention.items() if not passed(checks[name], self.scores[position])]


def passed(check: AttentionCheck, scores: dict[tuple[str, str], int]) -> bool:
    """Whether the scores of a check's page, (slot, row) -> score, are those of an attentive rater."""
    if check.video is not None:
        return all(check.at_least <= s <= check.at_most for (_, row), s in scores.items() if row == check.criterion)
    return all(score == check.answer for (_, row), score in scores.items() if row == check.id)


def behaviours(session: Session) -> dict[str, Behaviour]:
    """Everyone's submitted pages, by pseudonym."""
    found: dict[str, Behaviour] = defaultdict(Behaviour)
    for row in session.execute(text(_SCORES)):
        rater = found[row.participant]
        rater.kinds[row.position] = row.kind
        rater.page_s[row.position] = row.page_s
        rater.scores[row.position][row.slot, row.row] = row.score
        if row.attention is not None:
            rater.attention[row.position] = row.attention
        if row.repeat_of is not None:
            rater.repeat_of[row.position] = row.repeat_of
    return found


def reasons(behaviour: Behaviour, study: StudyFile) -> list[str]:
    """Why the study's rules leave this rater out of the analysis; empty for everybody who stays."""
    rule, found = study.exclusion, []
    failed = behaviour.failed({check.id: check for check in study.checks})
    if rule.failed_checks is not None and len(failed) >= rule.failed_checks:
        found.append(f"failed {len(failed)} of {len(behaviour.attention)} attention checks")
    share = behaviour.straight_share()
    if rule.straight_line is not None and share is not None and share >= rule.straight_line:
        found.append(f"one score in all rows on {share:.0%} of the pages")
    median = behaviour.median_s()
    if rule.min_page_s is not None and median is not None and median < rule.min_page_s:
        found.append(f"median {median:.1f} s on a page, under {rule.min_page_s:g} s")
    if rule.min_pages is not None and len(behaviour.rated) < rule.min_pages:
        found.append(f"{len(behaviour.rated)} pages answered, under {rule.min_pages}")
    return found


def excluded(session: Session, study: StudyFile) -> dict[str, list[str]]:
    """Pseudonym -> reasons, of everybody with an answer."""
    return {name: reasons(behaviour, study) for name, behaviour in behaviours(session).items()}


def rows(session: Session, study: StudyFile) -> list[dict[str, Any]]:
    """One row per participant who consented, doubtful ones first.

    Returns:
        Dictionaries: rater, answered (pages, practice aside), finished, median_page_s, straight_share, checks
        (answered), failed_checks (ids), repeat_difference (levels), flags (sentences), excluded. Numbers are None
        where there is nothing to compute them from. Unfinished raters are not flagged for being unfinished.
    """
    checks = {check.id: check for check in study.checks}
    found = behaviours(session)
    people = session.execute(
        text("SELECT id, finished_at FROM participant WHERE consented_at IS NOT NULL ORDER BY consented_at, id")
    ).all()
    table = []
    for person in people:
        behaviour = found.get(person.id, Behaviour())
        why, failed = reasons(behaviour, study), behaviour.failed(checks)
        doubts = list(why)
        if failed and not any("attention" in reason for reason in why):
            doubts.append(f"failed {len(failed)} of {len(behaviour.attention)} attention checks")
        table.append(
            {
                "rater": person.id,
                "answered": len(behaviour.kinds),
                "finished": person.finished_at is not None,
                "median_page_s": behaviour.median_s(),
                "straight_share": behaviour.straight_share(),
                "checks": len(behaviour.attention),
                "failed_checks": failed,
                "repeat_difference": behaviour.repeat_difference(),
                "flags": doubts,
                "excluded": bool(why),
            }
        )
    return sorted(table, key=lambda row: not row["flags"])
