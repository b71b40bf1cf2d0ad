"""The HTML of the administrator's view. No script; everything from the study or a rater is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from studio.study.schema import StudyFile

STYLE = Path(__file__).with_name("web") / "admin.css"


def login(sentence: str, base: str = "") -> str:
    """The page that asks for the password.

    Args:
        sentence: why it is shown again; may be empty.
        base: relative path from the address it is shown at to that of ``/admin``'s folder.
    """
    told = f"<p role='alert'>{escape(sentence)}</p>" if sentence else ""
    return _page(
        "Administration",
        f"<form class='card' method='post' action='{base}admin/login'><h1>Administration</h1>{told}"
        "<label for='password'>Password</label>"
        "<input id='password' name='password' type='password' autocomplete='current-password' required autofocus>"
        "<button>Sign in</button></form>",
    )


def problem(sentence: str) -> str:
    """The page that says what went wrong."""
    return _page(
        "Administration", f"<div class='card'><h1>Administration</h1><p role='alert'>{escape(sentence)}</p></div>"
    )


def dashboard(study: StudyFile, counts: dict[str, Any], flags: Sequence[dict[str, Any]]) -> str:
    """Counts, balance, flags and downloads."""
    shown = ("joined", "consented", "started", "finished", "excluded", "answers", "scores", "submissions")
    numbers = "".join(f"<div><b>{counts[key]}</b><span>{key}</span></div>" for key in shown)
    files = "".join(
        f"<a class='button' href='admin/{name}' download>{text}</a>"
        for name, text in (
            ("long.csv", "CSV, one score a row"),
            ("wide.csv", "CSV, one object a row"),
            ("study.json", "JSON with the design"),
            ("backup.db", "Database backup"),
        )
    )
    objects = {item.id: item.object or item.prompt for item in study.items}
    places = [
        (method.name, *counts["places"].get(method.id, ())) for method in study.methods
    ]  # how often each method stood at each place: equal columns are the balance the plan aims at
    width = len(study.methods)
    balance = _table(("method", *(f"place {k + 1}" for k in range(width))), places)
    raters = [
        (
            row["rater"], row["answered"], "yes" if row["finished"] else "no", _number(row["median_page_s"], " s"),
            _share(row["straight_share"]), f"{len(row['failed_checks'])} of {row['checks']}",
            _number(row["repeat_difference"]), "; ".join(row["flags"]), "excluded" if row["excluded"] else "",
        )
        for row in flags
    ]  # fmt: skip
    heads = ("rater", "pages", "finished", "median page", "straight lines", "failed checks", "repeat difference")
    items = [(name, objects.get(name, ""), n) for name, n in counts["items"].items()]
    refused = [(row["kind"], row["count"], row["raters"], row["last"]) for row in counts["refused"]]
    return _page(
        study.title,
        f"<header><div><h1>{escape(study.title)}</h1><p>{len(study.items)} objects, {width} methods, "
        f"{counts['pages']} pages a rater</p></div>"
        "<form method='post' action='admin/logout'><button>Sign out</button></form></header>"
        f"<div class='numbers'>{numbers}</div><h2>Download</h2><div class='files'>{files}</div>"
        f"<h2>Balance</h2><p>Submitted pages by method and place. In the plans, an object's methods differ by at most "
        f"{counts['balance']} at any place.</p>{balance}"
        f"<h2>Raters</h2><p>Those the rules of the study file exclude stay in the data, marked.</p>"
        f"{_table((*heads, 'flags', 'by the rules'), raters)}"
        f"<h2>Objects</h2>{_table(('id', 'object', 'raters'), items)}"
        f"<h2>Refused requests</h2>{_table(('kind', 'count', 'raters', 'last'), refused)}",
    )


def _table(heads: Iterable[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return "<p>None yet.</p>"
    head = "".join(f"<th scope='col'>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:.1f}{unit}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _page(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head><body>{body}</body></html>"
    )
