"""Study files: what is understood, and the sentence for what is not."""

from pathlib import Path

import pytest
import yaml
from study_samples import METHODS, study_entries

from studio.study.criteria import TABLE_3, paper_criteria
from studio.study.folder import parse_study, read_study, write_study
from studio.study.schema import StudyFile
from t4d.errors import InputError


def test_the_default_grid_is_that_of_the_papers_figure_11():
    study = StudyFile.model_validate(study_entries())
    assert [criterion.question for criterion in study.criteria] == [
        "Consistency with the reference image",
        "Consistency with the text",
        "Visual quality of the results",
        "Motion/movement quality of the results",
    ]
    assert study.levels == 5 and study.layout == "single"
    assert sorted(TABLE_3) == sorted(criterion.id for criterion in paper_criteria())
    labels = {criterion.id: criterion.label for criterion in paper_criteria()}
    assert [labels[name] for name in TABLE_3] == ["Align. Text", "Align. 3D", "Mot.", "Appr."]
    # The paper: 20 objects and two pages around them, three results each.
    assert StudyFile.model_validate(study_entries(items=20)).pages == 60


def test_a_study_survives_its_file(tmp_path):
    anchor = {"id": "bad", "video": "x.mp4", "item": "item0", "criterion": "motion", "at_most": 2}
    checks = [{"id": "care", "answer": 2}, anchor]
    entries = study_entries(
        practice=["item1"], checks=checks, repeats=1, items_per_rater=3, expires="2030-01-01T00:00:00+01:00",
        completion={"code": "ABC", "redirect": "https://example.org/{code}"}, consent="# Hello\n\nπ ≈ 3 — *yes*",
    )  # fmt: skip
    study = StudyFile.model_validate(entries)
    path = write_study(study, tmp_path / "s.yaml")
    assert read_study(path) == study and read_study(path).design_digest() == study.design_digest()
    assert path.stat().st_mode & 0o777 == 0o600  # it names the methods


def test_the_digest_names_what_answers_depend_on():
    base = StudyFile.model_validate(study_entries(repeats=1))
    free = {"title": "T", "consent": "C", "contact": "x@y", "abandon_after_h": 3.0}
    assert base.model_copy(update=free).design_digest() == base.design_digest()
    named = study_entries(repeats=1)
    named["methods"] = [{"id": name, "label": name.upper(), "source": "there"} for name in METHODS]
    assert StudyFile.model_validate(named).design_digest() == base.design_digest()
    digests = {base.design_digest()}
    changes = [{"seed": 1}, {"repeats": 2}, {"back": False}, {"layout": "side_by_side"}]
    for change in (*changes, {"exclusion": {"failed_checks": 1}}, {"video": {"side": 64}}):
        digests.add(StudyFile.model_validate(study_entries(**{"repeats": 1, **change})).design_digest())
    assert len(digests) == 7


def broken(**change) -> dict:
    return study_entries(**change)


def without(key: str) -> dict:
    entries = study_entries()
    del entries[key]
    return entries


def anchor(**change) -> dict:
    check = {"id": "c", "video": "v.mp4", "item": "item0", "criterion": "motion"}
    return study_entries(checks=[check | change])


def item_with(**change) -> dict:
    entries = study_entries()
    entries["items"][1] |= change
    return entries


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (without("methods"), "methods: Field required"),
        (broken(colour="red"), r"colour: Extra inputs are not permitted \(found 'red'\)"),
        (broken(repeats=-1), r"repeats: .* greater than or equal to 0 \(found -1\)"),
        (broken(levels=12), "levels"),
        (item_with(videos={"zebrafish": "a.mp4"}), "'item1' has no video of the method 'narwhal'"),
        (item_with(videos=dict.fromkeys((*METHODS, "axolotl"), "a.mp4")), "'axolotl', which is not a method"),
        (item_with(id="item0"), "the item id 'item0' occurs twice"),
        (item_with(id="a/b"), "items.1.id"),
        (item_with(prompt=" "), "items.1.prompt"),
        (item_with(reference="a\\b.png"), "forward slashes"),
        (broken(practice=["nothing"]), "practice names the item 'nothing'"),
        (broken(checks=[{"id": "c"}]), "give 'answer'"),
        (broken(checks=[{"id": "c", "answer": 6}]), "a level above 5"),
        (broken(checks=[{"id": "motion", "answer": 2}]), "'motion' occurs twice"),
        (anchor(), "an anchor needs"),
        (anchor(criterion="charm", at_most=2), "'charm'"),
        (broken(items_per_rater=9), "items_per_rater is 9, but there are 4 items"),
        (broken(expires="2030-01-01T00:00:00"), "no time zone"),
        (broken(completion={"redirect": "http://x.org"}), "https:// address"),
        (broken(completion={"redirect": "javascript:alert(1)"}), "https:// address"),
        (broken(video={"background": "grey"}), "video.background"),
        (broken(video={"side": 513}), "video.side"),
        (broken(min_watch_s=100.0), "over 30 times"),
        (broken(criteria=[{"id": "x", "question": "q", "anchors": {6: "best"}}]), "not on a level from 1 to 5"),
        (broken(methods=("same", "same")), "the method id 'same' occurs twice"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_sentence(entries, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        parse_study(entries, "s.yaml")
    assert str(caught.value).startswith("s.yaml: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no entries"),
        (b"- a\n- b\n", "holds no entries"),
        (b"title: [", "is not YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"!!python/object/apply:os.system ['true']", "is not YAML"),
        (b"title: a\ntitle: b\n", "'title' is given twice"),
        (b"items:\n- videos: {a: x.mp4, a: y.mp4}\n", "'a' is given twice"),
        (b"[" * 5000, "is not YAML"),
        (b"{? [1, 2] : 3}", "is not YAML"),
        (b"x" * (5 * 2**20), "more than 4 MB"),
    ],
)
def test_files_that_are_no_study_files(tmp_path, content, sentence):
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_study(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_study(Path(tmp_path / "none.yaml"))


def test_yaml_aliases_do_not_explode(tmp_path):
    whole = yaml.safe_dump(study_entries())
    bomb = whole + "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 40))
    (tmp_path / "s.yaml").write_text(bomb)
    with pytest.raises(InputError, match=r"Extra inputs|required"):
        read_study(tmp_path / "s.yaml")


def test_the_file_may_be_short(tmp_path):
    path = tmp_path / "s.yaml"
    item = {"id": "x", "prompt": "p", "reference": "r.png", "videos": {"a": "v.mp4"}}
    path.write_text(yaml.safe_dump({"methods": [{"id": "a"}], "items": [item]}))
    assert read_study(path).pages == 1
