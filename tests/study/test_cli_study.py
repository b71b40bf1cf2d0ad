"""``python -m studio.study`` from result folders to tables, and the tables and flags themselves."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from study_rating import begin, rate_all, submission
from study_samples import METHODS, moving_square
from typer.testing import CliRunner

from studio.study import cli, export, flags
from studio.study.contract import Page
from studio.study.folder import read_study
from studio.study.schema import AttentionCheck, Exclusion, StudyFile, VideoSpec
from studio.study.service import StudyService
from studio.study.sources import draft_study, find_results
from studio.study.space import kept_service
from studio.study.video import write_plain_video
from t4d.errors import InputError

SPEC = VideoSpec(fps=8, crf=30)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """METHOD/OBJECT.mp4 with sentences beside one method's videos, one object of which a method has no video."""
    for method in METHODS:
        for k in range(3 if method == METHODS[0] else 2):
            video = tmp_path / "results" / method / f"object{k}.mp4"
            video.parent.mkdir(parents=True, exist_ok=True)
            write_plain_video(video, moving_square(4, 64), SPEC)
            if method == METHODS[0]:
                video.with_suffix(".txt").write_text(f"Object {k}\njumps.")
    return tmp_path / "results"


def run_folder(root: Path, name: str, variant: str, prompt: str, status: str = "done") -> None:
    """A run folder of this project, as far as a study reads it."""
    folder = root / name
    folder.mkdir(parents=True)
    manifest = {"status": status, "inputs": [{"name": "fox.glb"}], "prompt": prompt, "config": {"variant": variant}}
    (folder / "run.json").write_text(json.dumps(manifest))
    write_plain_video(folder / "orbit.mp4", moving_square(4, 64), SPEC)


def staircase(page: Page, first: int) -> dict[str, int]:
    return {f"A/{row.id}": 1 + (k + first) % 5 for k, row in enumerate(page.criteria)}


def test_from_folders_to_tables(tree, tmp_path):
    path = tmp_path / "study.yaml"
    output = run("init", path, tree, "--title", "Foxes", "--seed", 4)
    assert "object2 is left out: narwhal, quokka have no video" in output and "2 objects x 3 methods" in output
    study = read_study(path)
    assert (study.title, study.seed) == ("Foxes", 4)
    assert [item.prompt for item in study.items] == ["Object 0 jumps.", "Object 1 jumps."]
    assert sorted(study.items[0].videos) == sorted(METHODS)
    small = {"video": {"side": 64, "fps": 8, "seconds": 0.5}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | small))
    assert "6 pages per rater" in run("check", path)
    service = StudyService(tmp_path / "study")
    codes = [begin(service, PROLIFIC_PID=f"pid{k}") for k in range(2)]
    for k, code in enumerate(codes):
        rate_all(service, code, lambda page, k=k: staircase(page, k))
    service.finish(codes[0])
    rows = service.rows()
    service.close()
    run("export", tmp_path / "study", "-o", tmp_path / "out", "--people")
    tables = ("ratings_long.csv", "ratings_wide.csv", "participants.csv", "flags.csv")
    read = {name: list(csv.DictReader((tmp_path / "out" / name).open())) for name in tables}
    assert [(row["rater"], row["method"], row["criterion"], int(row["score"])) for row in read["ratings_long.csv"]] == [
        (row["rater"], row["method"], row["criterion"], row["score"]) for row in rows
    ]
    wide = {(row["rater"], row["item"]): row for row in read["ratings_wide.csv"]}
    assert len(wide) == 4
    for row in rows:
        assert wide[row["rater"], row["item"]][f"{row['method']}:{row['criterion']}"] == str(row["score"])
    assert [row["PROLIFIC_PID"] for row in read["participants.csv"]] == ["pid0", "pid1"]
    assert [row["completion"] != "" for row in read["participants.csv"]] == [True, False]
    document = json.loads((tmp_path / "out" / "ratings.json").read_text())
    assert document["rows"] == rows and document["study"]["seed"] == 4
    public = ("ratings_long.csv", "ratings_wide.csv", "ratings.json", "flags.csv")
    published = "".join((tmp_path / "out" / name).read_text() for name in public)
    assert "pid0" not in published and "T4D-" not in published
    report = run("analyze", path, "-o", tmp_path / "analysis", "--draws", 200)
    assert "Align. Text" in report and "| " in report and (tmp_path / "analysis" / "table3.tex").is_file()
    assert Path(run("backup", tmp_path / "study").strip()).is_file()
    rater = rows[0]["rater"]
    run("export", tmp_path / "study", "-o", tmp_path / "person", "--participant", rater)
    assert json.loads((tmp_path / "person" / f"{rater}.json").read_text())["external"][0]["value"] == "pid0"
    run("erase", tmp_path / "study", rater, "--yes")
    run("export", tmp_path / "study", "-o", tmp_path / "out")
    assert rater not in (tmp_path / "out" / "ratings_long.csv").read_text()


def test_people_who_came_with_and_without_a_recruiting_service_are_one_table(study_folder, tmp_path):
    folder = study_folder(items=1)
    service = StudyService(folder)
    begin(service)
    begin(service, PROLIFIC_PID="x1")
    service.close()
    run("export", folder, "-o", tmp_path / "out", "--people")
    read = list(csv.DictReader((tmp_path / "out" / "participants.csv").open()))
    assert [row["PROLIFIC_PID"] for row in read] == ["", "x1"]


def test_erasing_on_a_space_reaches_the_mirror_that_lasts(study_folder, tmp_path, monkeypatch, capsys):
    folder = study_folder(items=1)
    monkeypatch.setenv("T4D_STUDY_DATA", str(tmp_path / "data"))
    with kept_service(folder) as service:
        rater = service.join(begin(service, PROLIFIC_PID="prolificfirst")).number
        begin(service, PROLIFIC_PID="prolificsecond")
    (mirror,) = (tmp_path / "data").rglob("answers.jsonl")
    assert "prolificfirst" in mirror.read_text()
    run("erase", folder, rater, "--yes")
    kept = [path.read_text() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert (
        len(kept) == 1
        and "prolificfirst" not in kept[0]
        and "prolificsecond" in kept[0]
        and not (folder / "answers.jsonl").exists()
    )


def test_our_run_folders(tmp_path):
    for name, variant in (("r1", "full"), ("r2", "no_4dsh")):
        run_folder(tmp_path / "runs", name, variant, "A fox runs.")
        run_folder(tmp_path / "runs", name + "b", variant, "A fox sleeps.")
    run_folder(tmp_path / "runs", "r3", "full", "A fox runs.", status="failed")
    draft = draft_study([tmp_path / "runs"], tmp_path)
    assert [method.id for method in draft.study.methods] == ["full", "no_4dsh"]
    assert [item.prompt for item in draft.study.items] == ["A fox runs.", "A fox sleeps."]
    assert draft.study.items[0].videos == {"full": "runs/r1/orbit.mp4", "no_4dsh": "runs/r2/orbit.mp4"}
    run_folder(tmp_path / "runs", "r1c", "full", "A fox runs.", status="stopped")
    stopped = draft_study([tmp_path / "runs"], tmp_path)
    assert stopped.study == draft.study  # newer, but its fit is not finished
    assert "full has fox twice; the finished one is taken." in stopped.notes
    shutil.rmtree(tmp_path / "runs" / "r1")
    notes = draft_study([tmp_path / "runs"], tmp_path).notes
    assert "fox of full was stopped before its fit was finished." in notes
    run_folder(tmp_path / "runs", "r1", "full", "A fox runs.")
    shutil.rmtree(tmp_path / "runs" / "r1c")
    named = draft_study([f"ours={tmp_path / 'runs' / 'r1'}", f"theirs={tmp_path / 'runs' / 'r2'}"], tmp_path)
    assert [method.label for method in named.study.methods] == ["ours", "theirs"] and len(named.study.items) == 1
    shutil.rmtree(tmp_path / "runs" / "r1b")
    assert any("fox is left out" in note for note in draft_study([tmp_path / "runs"], tmp_path).notes)


def test_what_init_refuses(tree, tmp_path, capsys):
    with pytest.raises(InputError, match="holds neither finished runs"):
        find_results(tmp_path / "results" / METHODS[0] / ".." / ".." / "results", video="clip", method="x")
    for file in tree.rglob("*.txt"):
        file.unlink()
    with pytest.raises(InputError, match="No sentence is known for object0"):
        draft_study([tree], tmp_path)
    (tmp_path / "prompts.yaml").write_text("object0: One.\nobject1: Two.\n")
    assert "2 objects" in run("init", tmp_path / "s.yaml", tree, "--prompts", tmp_path / "prompts.yaml")
    with pytest.raises(InputError, match="exists"):
        run("init", tmp_path / "s.yaml", tree)
    shutil.rmtree(tree / METHODS[1])
    (tree / METHODS[1]).mkdir()
    write_plain_video(tree / METHODS[1] / "other.mp4", moving_square(4, 64), SPEC)
    with pytest.raises(InputError, match="No object has a video of every method"):
        draft_study([tree], tmp_path, prompts={"object0": "One."})


def test_errors_of_the_program_are_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["study", "check", str(tmp_path / "none.yaml")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    assert stopped.value.code == 1 and captured.err.count("\n") == 1
    assert captured.err.startswith("error: The study file")


def test_a_plan_of_sizes():
    assert "| 4 |" in run("plan-size", "--items", 4, "--raters", "4", "--simulations", 10)
    with pytest.raises(InputError, match="whole numbers"):
        run("plan-size", "--raters", "many")


def test_formulas_do_not_reach_spreadsheets():
    table = [{"rater": "p", "comment": comment} for comment in ("=HYPERLINK(1)", 'a "b", c\nd', "+1")]
    read = list(csv.DictReader(io.StringIO(export.to_csv(table))))
    assert [row["comment"] for row in read] == ["'=HYPERLINK(1)", 'a "b", c\nd', "'+1"]


def behaviour(grids: list[list[int]], seconds: float = 10.0, check: int | None = None) -> flags.Behaviour:
    found = flags.Behaviour()
    for position, grid in enumerate(grids):
        found.kinds[position], found.page_s[position] = "item", seconds
        found.scores[position] = {("A", str(k)): score for k, score in enumerate(grid)}
    if check is not None:
        position = len(grids)
        found.kinds[position], found.page_s[position], found.attention[position] = "check", 0.1, "care"
        found.scores[position] = {("A", "care"): check, ("A", "0"): 1}
    return found


def test_flags_by_hand():
    honest = behaviour([[1, 2], [3, 3], [4, 5], [2, 2]], check=2)
    assert honest.straight_share() == 0.5 and honest.median_s() == 10.0 and honest.repeat_difference() is None
    study = StudyFile.model_validate(
        {
            "methods": [{"id": "a"}],
            "items": [{"id": f"i{k}", "prompt": "p", "reference": "r.png", "videos": {"a": "v.mp4"}} for k in range(3)],
            "checks": [{"id": "care", "answer": 2}],
            "exclusion": {"failed_checks": 1, "straight_line": 0.75, "min_page_s": 4, "min_pages": 2},
        }
    )
    assert flags.reasons(honest, study) == []
    assert flags.reasons(behaviour([[1, 2], [3, 3]], check=3), study) == ["failed 1 of 1 attention checks"]
    assert flags.reasons(behaviour([[1, 1], [3, 3], [3, 3], [2, 3]]), study) == [
        "one score in all rows on 75% of the pages"
    ]
    assert flags.reasons(behaviour([[1, 2]] * 3, seconds=3.9), study) == ["median 3.9 s on a page, under 4 s"]
    assert flags.reasons(behaviour([[1, 2]]), study) == ["1 pages answered, under 2"]
    none = Exclusion(failed_checks=None, straight_line=None, min_page_s=None, min_pages=None)
    off = study.model_copy(update={"exclusion": none})
    assert flags.reasons(behaviour([[1, 1]], seconds=0.0, check=5), off) == []
    repeated = behaviour([[1, 4], [5, 5], [2, 2]])
    repeated.kinds[2], repeated.repeat_of[2] = "repeat", 0
    assert repeated.repeat_difference() == 1.5  # |2-1| and |2-4|
    anchor = AttentionCheck(id="x", video="v.mp4", item="i0", criterion="0", at_most=2)
    assert flags.passed(anchor, {("A", "0"): 2, ("A", "1"): 5}) and not flags.passed(anchor, {("A", "0"): 3})


def test_flags_from_the_database(study_folder):
    folder = study_folder(items=3, methods=("a", "b"), checks=[{"id": "care", "answer": 2}], repeats=1)
    service = StudyService(folder)
    careful, careless = begin(service), begin(service)
    while service.join(careful).phase != "done":
        page = service.page(careful)
        scores = {f"A/{row.id}": 2 if row.id == "care" else 1 + k % 5 for k, row in enumerate(page.criteria)}
        if page.kind == "repeat":
            scores = {cell: min(5, score + 1) for cell, score in scores.items()}
        service.answer(careful, submission(page, scores, page_s=10.0))
    while service.join(careless).phase != "done":
        service.answer(careless, submission(service.page(careless), 5, page_s=1.0))
    bad, good = service.flags()
    assert good["flags"] == [] and not good["excluded"] and good["repeat_difference"] == 1.0 and good["answered"] == 8
    assert bad["excluded"] and bad["failed_checks"] == ["care"] and bad["straight_share"] == 1.0
    assert [text.split()[0] for text in bad["flags"]] == ["one", "median", "failed"]
    assert {row["rater"]: row["excluded"] for row in service.rows()} == {good["rater"]: False, bad["rater"]: True}
    counts = service.counts()
    assert counts["excluded"] == 1 and counts["items"] == dict.fromkeys(("item0", "item1", "item2"), 2)
    assert sum(map(sum, counts["places"].values())) == 12 and counts["balance"] == 0
    service.close()
