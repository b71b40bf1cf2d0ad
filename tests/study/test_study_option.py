"""``python app.py --study``: the study and nothing else; a wrong path is one sentence."""

import sys
from pathlib import Path

import pytest
from study_serving import prepared_study

import studio.app
import studio.study.app


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What was served instead of a server that would not end."""
    calls: list[tuple] = []
    monkeypatch.setattr(studio.study.app, "serve", lambda *given: calls.append(given))
    monkeypatch.setattr(studio.app, "Studio", lambda *_: pytest.fail("the studio was started as well"))
    monkeypatch.delenv("T4D_STUDY", raising=False)
    return calls


def start(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["app.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        studio.app.run()
    return int(ended.value.code or 0)


def test_a_study_file_is_prepared_and_served_alone(
    served: list[tuple], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = prepared_study(tmp_path)
    assert start(monkeypatch, "--study", str(tmp_path / "walrus.yaml"), "--port", "7777") == 0
    monkeypatch.setenv("T4D_STUDY", str(folder))  # on a Space, whose command line is fixed
    assert start(monkeypatch) == 0
    assert served == [(folder, None, 7777, False), (folder, None, None, False)]


def test_a_wrong_path_is_one_sentence(
    served: list[tuple], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert start(monkeypatch, "--study", str(tmp_path / "nothing.yaml")) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and told[0].startswith("error: ") and "nothing.yaml" in told[0]
    assert served == []
