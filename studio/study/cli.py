"""``python -m studio.study init|check|serve|export|analyze|plan-size|backup|erase``."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from studio.study.folder import read_study, write_study
from studio.study.media import prepare
from studio.study.opening import prepared_folder
from studio.study.service import StudyService
from studio.study.space import kept_mirror
from t4d.errors import InputError

app = typer.Typer(
    help="A blind user study of moving objects: from result folders to a table with intervals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Study = Annotated[Path, typer.Argument(help="The study file, or its prepared folder.")]


@app.command()
def init(
    study: Annotated[Path, typer.Argument(help="The study file to write (.yaml).")],
    folders: Annotated[list[str], typer.Argument(help="Run folders, METHOD/OBJECT.mp4 folders, or NAME=FOLDER.")],
    title: Annotated[str, typer.Option(help="Shown to raters.")] = "User study",
    seed: Annotated[int, typer.Option(help="Of the raters' orders.")] = 0,
    video: Annotated[str, typer.Option(help="Of a run folder: orbit or clip.")] = "orbit",
    prompts: Annotated[Path | None, typer.Option(help="YAML file of 'object: sentence' lines.")] = None,
    references: Annotated[Path | None, typer.Option(help="Folder with OBJECT.png, pictures of the objects.")] = None,
) -> None:
    """Write a study file from what methods have produced; edit it, then check it."""
    from studio.study.sources import draft_study, read_prompts

    if study.exists():
        raise InputError(f"{study} exists; delete it or give another name.")
    if video not in ("orbit", "clip"):
        raise InputError(f"--video is '{video}'; give orbit or clip.")
    chosen: Literal["orbit", "clip"] = "orbit" if video == "orbit" else "clip"
    told = read_prompts(prompts) if prompts is not None else None
    draft = draft_study(
        folders, study.parent, video=chosen, prompts=told, references=references, title=title, seed=seed
    )
    study.parent.mkdir(parents=True, exist_ok=True)
    write_study(draft.study, study)
    _say(*draft.notes, err=True)
    size = f"{len(draft.study.items)} objects x {len(draft.study.methods)} methods"
    _say(f"{study}: {size}; edit it, then: python -m studio.study check {study}")


@app.command()
def check(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Prepared folder; else beside the file.")] = None,
) -> None:
    """Check a study file and prepare the folder that is served: every video in one format under a random name."""
    found = prepare(study, out, progress=lambda line: _say(line, err=True))
    StudyService(found.folder).close()
    _say(*found.notes, err=True)
    _say(
        f"{found.folder}: {found.study.pages} pages per rater, {len(found.study.items)} objects x "
        f"{len(found.study.methods)} methods; now: python -m studio.study serve {found.folder}"
    )


@app.command()
def serve(
    study: Study,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; the first free one from 7860 where not given.")] = None,
    share: Annotated[bool, typer.Option(help="Make a public link through Gradio's relay.")] = False,
) -> None:
    """Serve a study, and nothing else, to raters."""
    from studio.study.app import serve as run

    run(prepared_folder(study), host, port, share)


@app.command()
def export(
    study: Study,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")],
    participant: Annotated[str | None, typer.Option(help="Everything about this participant instead.")] = None,
    people: Annotated[bool, typer.Option(help="Also participants.csv: completion codes, recruiting ids.")] = False,
) -> None:
    """Write the ratings: ratings_long.csv, ratings_wide.csv and ratings.json."""
    from studio.study import export as tables
    from studio.study.participants import listing

    service = _opened(study)
    try:
        files: dict[str, str] = {}
        if participant is not None:
            files[f"{participant}.json"] = json.dumps(service.export(participant), indent=1, ensure_ascii=False)
        else:
            rows = service.rows()
            files["ratings_long.csv"] = tables.to_csv(rows)
            files["ratings_wide.csv"] = tables.to_csv(tables.wide_rows(rows, service.study), ("rater", "item"))
            files["ratings.json"] = tables.to_json(rows, service.study, service.counts()["refused"])
            files["flags.csv"] = tables.to_csv(service.flags(), ("rater",))
        if people:
            with service.store.read() as session:
                files["participants.csv"] = tables.to_csv(listing(session), ("rater",))
    finally:
        service.close()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            part = out / f".{name}.part"
            part.write_text(content, encoding="utf-8")
            part.replace(out / name)
            _say(str(out / name))
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); give another --out.") from error


@app.command()
def analyze(
    study: Study,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write report, tables and figures here.")] = None,
    draws: Annotated[int, typer.Option(min=100, max=1_000_000, help="Bootstrap tables.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
) -> None:
    """Print the report: means with intervals, reliability, tests, preferences, Table 3 beside the paper's."""
    from studio.study.results import results, write_results

    service = _opened(study)
    try:
        found = results(service.study, service.rows(), draws=draws, seed=seed)
    finally:
        service.close()
    _say(found.report)
    if out is not None:
        _say(*(str(path) for path in write_results(found, out, service.study.title)))


@app.command("plan-size")
def plan_size(
    items: Annotated[int, typer.Option(min=1, help="Objects.")] = 20,
    gap: Annotated[float, typer.Option(help="Difference between methods worth finding, scale points.")] = 0.2,
    raters: Annotated[str, typer.Option(help="Numbers of raters to try.")] = "10,20,40,80",
    methods: Annotated[int, typer.Option(min=2, help="Methods.")] = 3,
    items_per_rater: Annotated[int | None, typer.Option(min=1, help="Objects each rater sees; else all.")] = None,
    pilot: Annotated[Path | None, typer.Option(help="A study with answers, whose spread is taken.")] = None,
    simulations: Annotated[int, typer.Option(min=10, max=10_000, help="Studies of each size.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the simulations.")] = 0,
) -> None:
    """How many raters a study needs, by simulating it."""
    from t4d.metrics import ratings_plan
    from t4d.metrics.ratings_table import rating_table

    try:
        sizes = [int(part) for part in raters.split(",")]
    except ValueError:
        raise InputError(f"--raters is '{raters}'; give whole numbers separated by commas, e.g. 10,20,40.") from None
    spread = None
    levels, criteria = 5, 4
    if pilot is not None:
        service = _opened(pilot)
        try:
            study, rows = service.study, service.rows()
        finally:
            service.close()
        levels, criteria = study.levels, len(study.criteria)
        names = [method.id for method in study.methods], [criterion.id for criterion in study.criteria]
        spread = ratings_plan.spread_of(rating_table(rows, levels=levels, methods=names[0], criteria=names[1]))
    table = ratings_plan.plan_size(
        sizes, items, gap, methods=methods, criteria=criteria, items_per_rater=items_per_rater, levels=levels,
        spread=spread, simulations=simulations, seed=seed,
    )  # fmt: skip
    _say(ratings_plan.plan_markdown(table, gap))


@app.command()
def backup(study: Study) -> None:
    """Copy the database, which may be in use, to the folder's backups/."""
    service = _opened(study)
    try:
        _say(str(service.backup()))
    finally:
        service.close()


@app.command()
def erase(
    study: Study,
    participant: Annotated[str, typer.Argument(help="Pseudonym, as in the tables.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete everything about one participant: database, mirror and backups. There is no way back."""
    if not yes:
        typer.confirm(f"Delete everything about {participant}, backups included?", abort=True)
    service = _opened(study)
    try:
        service.erase(participant)
    finally:
        service.close()
    _say(f"{participant} is erased.")
    if dataset := os.environ.get("T4D_STUDY_DATASET"):
        _say(
            f"Older versions stay in the history of the dataset {dataset}; after the next push, end it with: "
            f"huggingface_hub.HfApi().super_squash_history('{dataset}', repo_type='dataset')",
            err=True,
        )


@app.command()
def schema() -> None:
    """Print the study file's JSON schema, with what every field means."""
    from studio.study.schema import StudyFile

    _say(json.dumps(StudyFile.model_json_schema(), indent=1))


@app.command()
def show(study: Study) -> None:
    """Print a study file as it is understood, every field spelled out."""
    from studio.study.folder import dump_study

    _say(dump_study(read_study(study / "study.yaml" if study.is_dir() else study)))


def _opened(study: Path) -> StudyService:
    """The study's service, with the mirror that a server on this machine keeps, if it has one."""
    folder = prepared_folder(study)
    mirror = kept_mirror(folder, os.environ)
    return StudyService(folder, mirror if mirror is not None and mirror.is_file() else None)


def _say(*lines: str, err: bool = False) -> None:
    for line in lines:
        typer.echo(line, err=err)


def main() -> None:
    """Entry point: errors of users are one line and exit status 1."""
    try:
        app()
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
