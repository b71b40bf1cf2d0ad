"""The command line's own part: parsing, exit codes, sentences."""

import pytest
import trimesh
import yaml
from typer.testing import CliRunner

from t4d import __main__ as cli
from t4d.config import Config
from t4d.geometry.object3d import load_object


def test_config_prints_the_resolved_configuration():
    result = CliRunner().invoke(cli.app, ["config", "-s", "stage1.steps=9", "--preset", "paper"])
    assert result.exit_code == 0
    printed = yaml.safe_load("\n".join(line for line in result.output.splitlines() if not line.startswith("#")))
    assert printed["preset"] == "paper" and printed["stage1"]["steps"] == 9
    assert "# stage1.steps: Denoising steps (paper: 25). At least 1, at most 200." in result.output
    assert (
        "# stage2.guidance.scale: Classifier-free" in result.output
        and "# stage2.features.t: feature_t" in result.output
    )
    assert "# stage2.field.planes[].time: Samples along t. At least 2, at most 128." in result.output
    assert "One of trained, untrained, random." in result.output


def test_config_names_every_setting_that_it_prints():
    config = Config.load("mini")

    def leaves(data, prefix=""):
        for key, value in data.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    named = {name for name, description, _ in cli._settings(config) if description}
    assert set(leaves(config.model_dump())) <= named


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["animate", "nothing.glb", "a fox is running", "-o", "OUT"], "nothing.glb"),
        (["animate", "nothing.glb", "a fox is running", "-o", "OUT", "-s", "stage1.stepz=1"], "stage1.stepz"),
        (["animate", "nothing.glb", "a fox is running", "-o", "OUT", "--preset", "maxi"], "maxi"),
        (["fit", "nowhere", "--object", "BOX", "-o", "OUT"], "The clip nowhere does not exist"),
        (["fit", "nowhere", "--object", "nothing.glb", "-o", "OUT"], "nothing.glb does not exist"),
        (["fit", "EMPTY", "--object", "BOX", "-o", "OUT"], "empty holds no numbered .png pictures"),
        (["prepare", "nothing.glb", "-o", "OUT.glb"], "nothing.glb does not exist"),
        (["prepare", "BOX", "-o", "OUT"], "must be a .glb file"),
    ],
)
def test_bad_input_ends_with_its_sentence_and_code_two(monkeypatch, capsys, tmp_path, arguments, says):
    trimesh.creation.box().export(tmp_path / "box.glb")
    (tmp_path / "empty").mkdir()
    names = {"OUT": "out", "OUT.glb": "out.glb", "BOX": "box.glb", "EMPTY": "empty"}
    arguments = [str(tmp_path / names[item]) if item in names else item for item in arguments]
    monkeypatch.setattr("sys.argv", ["t4d", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.splitlines()[-1].startswith("error: ") and says in error


def test_prepare_writes_an_object_with_baked_colours(monkeypatch, capsys, tmp_path):
    trimesh.creation.icosphere(subdivisions=2).export(tmp_path / "ball.glb")
    out = tmp_path / "baked.glb"
    monkeypatch.setattr("sys.argv", ["t4d", "prepare", str(tmp_path / "ball.glb"), "-o", str(out), "--samples", "4"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0 and capsys.readouterr().out.strip().endswith("baked.glb")
    colors = load_object(out).mesh.vertex_color
    assert colors is not None and len(colors) >= 162 and colors[:, 0].std() > 0.02, "the light is in the colours"
