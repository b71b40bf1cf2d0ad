"""The command line's own part: parsing, exit codes, sentences."""

import pytest
import yaml
from typer.testing import CliRunner

from t4d import __main__ as cli


def test_config_prints_the_resolved_configuration():
    result = CliRunner().invoke(cli.app, ["config", "-s", "stage1.steps=9", "--preset", "paper"])
    assert result.exit_code == 0
    printed = yaml.safe_load("\n".join(line for line in result.output.splitlines() if not line.startswith("#")))
    assert printed["preset"] == "paper" and printed["stage1"]["steps"] == 9
    assert "# stage1.steps: Denoising steps" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["animate", "nothing.glb", "a fox is running", "-o", "OUT"], "nothing.glb"),
        (["animate", "nothing.glb", "a fox is running", "-o", "OUT", "-s", "stage1.stepz=1"], "stage1.stepz"),
        (["animate", "nothing.glb", "a fox is running", "-o", "OUT", "--preset", "maxi"], "maxi"),
    ],
)
def test_bad_input_ends_with_its_sentence_and_code_two(monkeypatch, capsys, tmp_path, arguments, says):
    arguments = [str(tmp_path / "out") if item == "OUT" else item for item in arguments]
    monkeypatch.setattr("sys.argv", ["t4d", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.splitlines()[-1].startswith("error: ") and says in error
