"""A study's answers as tables: long and wide, CSV and JSON; and how far the study is."""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from studio.study import flags
from studio.study.schema import StudyFile

LONG = ("rater", "item", "method", "criterion", "score", "repeat", "check", "excluded")
_LONG = """
SELECT page.participant AS rater, page.item, score.method, score.row AS criterion, score.score, page.kind,
       page.position AS page, page.title, page.result, score.slot, page.repeat_of, answer.at, answer.page_s,
       answer.watched_s, answer.comment
FROM current_answer AS answer JOIN page ON page.token = answer.token JOIN score ON score.answer = answer.id
     JOIN participant ON participant.id = page.participant
WHERE page.kind != 'practice'
ORDER BY participant.consented_at, participant.id, page.position, score.slot, score.rowid
"""


def long_rows(session: Session, study: StudyFile) -> list[dict[str, Any]]:
    """The long table, one row per score of every submitted page, practice aside, by rater and page.

    Returns:
        Dictionaries: rater, item, method, criterion, score; repeat (a page seen again), check (an attention check's
        page, of which nothing belongs in the analysis), excluded (the rater, by the study's rules); page, title,
        result, slot, repeat_of, at (ISO time), page_s, watched_s, comment.
    """
    left_out = flags.excluded(session, study)
    table = []
    for row in session.execute(text(_LONG)).mappings():
        entry = {key: row[key] for key in ("rater", "item", "method", "criterion", "score")}
        entry |= {"repeat": row["kind"] == "repeat", "check": row["kind"] == "check"}
        entry["excluded"] = bool(left_out.get(row["rater"]))
        entry |= {key: row[key] for key in ("page", "title", "result", "slot", "repeat_of")}
        entry["at"] = datetime.fromtimestamp(row["at"], UTC).isoformat(timespec="seconds")
        table.append(entry | {key: row[key] for key in ("page_s", "watched_s", "comment")})
    return table


def wide_rows(table: Sequence[dict[str, Any]], study: StudyFile) -> list[dict[str, Any]]:
    """One row per rater and item, one column "method:criterion" per score; repeats and checks left out."""
    columns = [f"{method.id}:{criterion.id}" for method in study.methods for criterion in study.criteria]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table:
        if row["repeat"] or row["check"]:
            continue
        entry = found.setdefault(
            (row["rater"], row["item"]),
            {"rater": row["rater"], "item": row["item"], "excluded": row["excluded"], **dict.fromkeys(columns)},
        )
        entry[f"{row['method']}:{row['criterion']}"] = row["score"]
    return list(found.values())


def to_csv(table: Sequence[dict[str, Any]], columns: Sequence[str] = LONG) -> str:
    """A table as CSV (UTF-8, comma, header). Texts that a spreadsheet would run as a formula get a leading quote."""
    buffer = io.StringIO()
    names = list(table[0]) if table else list(columns)
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for row in table:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return buffer.getvalue()


def to_json(table: Sequence[dict[str, Any]], study: StudyFile, refused: Sequence[dict[str, Any]] = ()) -> str:
    """Everything an analysis needs in one JSON document: the design and the long table."""
    design = study.model_dump(mode="json", exclude={"consent", "completion"})
    document = {"study": design, "design_digest": study.design_digest(), "refused": list(refused), "rows": list(table)}
    return json.dumps(document, ensure_ascii=False, indent=1)


def refusals(session: Session) -> list[dict[str, Any]]:
    """Refused requests by kind: kind, count, raters, last (ISO time)."""
    raters = "count(nullif(participant, '')) AS raters"
    query = f"SELECT kind, sum(count) AS n, {raters}, max(last_at) AS last FROM event GROUP BY kind"
    return [
        {
            "kind": row.kind,
            "count": row.n,
            "raters": row.raters,
            "last": datetime.fromtimestamp(row.last, UTC).isoformat(timespec="seconds"),
        }
        for row in session.execute(text(query))
    ]


def counts(session: Session, study: StudyFile) -> dict[str, Any]:
    """How far the study is and how balanced.

    Returns:
        joined, consented, started, finished (raters); pages (of one rater), answers (submitted pages), submissions
        (all rows of the answer log), scores (current); excluded (raters with answers); items: id -> raters who rated
        it; places: method -> [raters' pages at result or slot 1, 2, ...] among the submitted item pages;
        balance: largest difference within an item between how often its methods stand at a place in the plans of all
        who consented (0 or 1 by construction unless plans were given away twice); refused: `refusals`.
    """

    def number(query: str) -> int:
        return int(session.execute(text(query)).scalar_one())

    seen: dict[str, Counter] = defaultdict(Counter)
    plans = session.execute(text("SELECT item, methods, result FROM page WHERE kind = 'item'"))
    for page in plans:
        for place, method in enumerate(page.methods.split()):
            seen[page.item][method, page.result or place + 1] += 1
    size = len(study.methods)
    cells = [(method.id, place + 1) for method in study.methods for place in range(size)]
    spread = [max(table[cell] for cell in cells) - min(table[cell] for cell in cells) for table in seen.values()]
    done = "current_answer AS answer JOIN page ON page.token = answer.token WHERE page.kind = 'item'"
    places = {method.id: [0] * size for method in study.methods}
    items: dict[str, set[str]] = {item.id: set() for item in study.items}
    for page in session.execute(text(f"SELECT participant, item, methods, result FROM {done}")):
        items[page.item].add(page.participant)
        for place, method in enumerate(page.methods.split()):
            places[method][(page.result or place + 1) - 1] += 1
    return {
        "joined": number("SELECT count(*) FROM participant"),
        "consented": number("SELECT count(*) FROM participant WHERE consented_at IS NOT NULL"),
        "started": number("SELECT count(DISTINCT participant) FROM answer JOIN page USING (token)"),
        "finished": number("SELECT count(*) FROM participant WHERE finished_at IS NOT NULL"),
        "pages": study.pages,
        "answers": number("SELECT count(*) FROM current_answer"),
        "submissions": number("SELECT count(*) FROM answer"),
        "scores": number("SELECT count(*) FROM current_answer AS a JOIN score ON score.answer = a.id"),
        "excluded": sum(bool(why) for why in flags.excluded(session, study).values()),
        "items": {name: len(raters) for name, raters in items.items()},
        "places": places,
        "balance": max(spread, default=0),
        "refused": refusals(session),
    }


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
