"""Analyses a user study's ratings, plans a study, and measures whether the analysis keeps its word.

    python -m studio.study export FOLDER --out RATINGS        (a served study's answers as files)
    python -m eval.study analyze RATINGS [--out REPORT]       (that folder, its ratings.json, or any long CSV or JSON)
    python -m eval.study plan [--gap 0.2] [--raters 10,20,40,80] [--items 20] [--pilot RATINGS]
    python -m eval.study coverage [--simulations 500]         (-> eval/results/study_coverage.json)

A long table has one rating a row: rater, item, method, criterion, score, and where they apply repeat, check, excluded.
With ``ratings.json`` labels, order of methods and the scale come from the study; a CSV says only its own names, and is
read as a scale of 1 to 5 unless ``--levels`` says otherwise. The report is Markdown: Table 3 beside the paper's means,
distributions, pairs, Friedman, agreement of raters, and means with and without exclusions (`t4d.metrics.ratings`).
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval import study_coverage
from t4d.errors import InputError
from t4d.metrics.ratings import analyse_table
from t4d.metrics.ratings_plan import plan_markdown, plan_size, spread_of
from t4d.metrics.ratings_report import report_markdown
from t4d.metrics.ratings_table import RatingTable, rating_table
from t4d.metrics.ratings_table3 import table3_latex, table3_markdown

FILES = ("ratings.json", "ratings_long.csv")
RESULTS = Path(__file__).parent / "results" / "study_coverage.json"


@dataclass(frozen=True)
class Ratings:
    """Ratings read from a file.

    Attributes:
        table: Of the file, with everyone in it.
        title: Of the study.
        methods, criteria: id -> label.
    """

    table: RatingTable
    title: str = "User study"
    methods: Mapping[str, str] = field(default_factory=dict)
    criteria: Mapping[str, str] = field(default_factory=dict)


def _file(path: Path) -> Path:
    """The ratings file that a path means."""
    if not path.is_dir():
        return path
    found = next((path / name for name in FILES if (path / name).is_file()), None)
    if found is None:
        if (path / "study.db").is_file():
            command = f"python -m studio.study export {path} --out RATINGS"
            raise InputError(f"{path} holds a served study; write its ratings to files first: {command}.")
        raise InputError(f"{path} holds neither {' nor '.join(FILES)}; give the folder of a study's exported ratings.")
    return found


def _labels(entries: Any, path: Path, what: str) -> dict[str, str]:
    try:
        return {str(entry["id"]): str(entry.get("label") or "") for entry in entries}
    except (TypeError, KeyError, AttributeError):
        raise InputError(f"{path}: the study's {what} are not a list of entries with an id; export it again.") from None


def read_ratings(path: Path, levels: int | None = None) -> Ratings:
    """Reads a study's ratings.

    Args:
        path: A folder written by ``python -m studio.study export``, its ratings.json, or a long table as .csv or .json.
        levels: Points of the scale; None: the study's, or 5.

    Raises:
        InputError: Missing or unreadable file, or ratings that make no table.
    """
    path = _file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text ({error}); give the ratings as .json or .csv.") from error
    if path.suffix.lower() != ".json":
        rows: Any = list(csv.DictReader(io.StringIO(text, newline="")))
        return Ratings(rating_table(rows, levels=levels or 5))
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); export the study again.") from error
    study = content.get("study") if isinstance(content, dict) else None
    rows = content.get("rows") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} holds no list of ratings; give the ratings.json of an exported study.")
    if not isinstance(study, dict):
        return Ratings(rating_table(rows, levels=levels or 5))
    methods = _labels(study.get("methods"), path, "methods")
    criteria = _labels(study.get("criteria"), path, "criteria")
    scale = levels or study.get("levels", 5)
    if not isinstance(scale, int) or not 2 <= scale <= 100:
        raise InputError(f"{path}: the scale has {str(scale)[:40]!r} levels; expected a whole number from 2 to 100.")
    table = rating_table(rows, levels=scale, methods=list(methods), criteria=list(criteria))
    return Ratings(table, str(study.get("title", "User study")), methods, criteria)


def analyze(path: Path, out: Path | None, draws: int, seed: int, levels: int | None) -> None:
    """Prints the report and, with `out`, writes report.md, table3.md, table3.tex and analysis.json there."""
    ratings = read_ratings(path, levels)
    everyone = analyse_table(ratings.table, draws=draws, seed=seed)
    analysis = everyone
    # where the rules exclude everyone, all are shown, and the report says so
    if 0 < len(ratings.table.excluded) < len(ratings.table.raters):
        left = analyse_table(ratings.table.without_excluded(), draws=draws, seed=seed)
        analysis = left.left_out(ratings.table.excluded)
    labels = {"method_labels": ratings.methods, "criterion_labels": ratings.criteria}
    report = report_markdown(analysis, everyone, title=ratings.title, **labels)
    print(report)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    both = {"with_exclusions": analysis.as_dict(), "everyone": everyone.as_dict()}
    (out / "report.md").write_text(report)
    (out / "table3.md").write_text(table3_markdown(analysis, **labels))
    (out / "table3.tex").write_text(table3_latex(analysis, **labels))
    (out / "analysis.json").write_text(json.dumps(both, indent=1, ensure_ascii=False) + "\n")
    print(f"Written to {out}")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 10,20,40") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m eval.study", description="Statistics of a user study.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("analyze", help="report of a study's ratings")
    one.add_argument("ratings", type=Path)
    one.add_argument("--out", type=Path)
    one.add_argument("--draws", type=int, default=10_000)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--levels", type=int)
    one = commands.add_parser("plan", help="how many raters a study needs")
    one.add_argument("--gap", type=float, default=0.2, help="difference of mean scores to find, scale points")
    one.add_argument("--raters", type=_numbers, default=[10, 20, 40, 80])
    one.add_argument("--items", type=int, default=20)
    one.add_argument("--methods", type=int, default=3)
    one.add_argument("--criteria", type=int, default=4)
    one.add_argument("--items-per-rater", type=int)
    one.add_argument("--pilot", type=Path, help="ratings whose spread is taken")
    one.add_argument("--simulations", type=int, default=200)
    one.add_argument("--seed", type=int, default=0)
    one = commands.add_parser("coverage", help="coverage of intervals, false alarms of tests")
    one.add_argument("--simulations", type=int, default=500, help="studies of each kind")
    one.add_argument("--fresh", action="store_true", help="do not go on with what --out holds")
    one.add_argument("--out", type=Path, default=RESULTS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; what a user did wrong is one sentence and exit status 1."""
    given = _parser().parse_args(arguments)
    try:
        if given.command == "analyze":
            if given.draws < 100:
                raise InputError(f"{given.draws} bootstrap draws; an interval needs at least 100.")
            analyze(given.ratings, given.out, given.draws, given.seed, given.levels)
        elif given.command == "plan":
            spread = None if given.pilot is None else spread_of(read_ratings(given.pilot).table)
            rows = plan_size(
                given.raters,
                given.items,
                given.gap,
                methods=given.methods,
                criteria=given.criteria,
                items_per_rater=given.items_per_rater,
                spread=spread,
                simulations=given.simulations,
                seed=given.seed,
            )
            print(plan_markdown(rows, given.gap))
        else:
            study_coverage.run(given.simulations, given.out, given.fresh)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
