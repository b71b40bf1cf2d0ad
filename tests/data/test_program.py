"""The dataset program end to end: pack, cache, sheet."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from t4d.data.cache import CachedClips
from train.dataset import app


@pytest.mark.data
def test_pack_cache_sheet(shared_data, tmp_path):
    source = tmp_path / "source" / "sea"
    source.mkdir(parents=True)
    shutil.copy(shared_data / "data/rigs_cc0/fish_pack/Shark.glb", source)
    shutil.copy(shared_data / "data/real3d/edge_cases/box_vertex_colors.glb", source)  # has no animation
    run = CliRunner().invoke
    packed = run(app, ["pack", "--source", str(source.parent), "--out", str(tmp_path / "rigs")])
    assert packed.exit_code == 0, packed.output
    assert "left out: box_vertex_colors.glb has no animation" in packed.output
    index = json.loads((tmp_path / "rigs/index.json").read_text())
    assert [r["source"] for r in index["rigs"]] == ["sea/Shark.glb"] and "sea/Shark.glb" in index["split"]["train"]
    common = ["--rigs", str(tmp_path / "rigs"), "--procedural", "0", "--side", "24"]
    cached = run(app, ["cache", "--out", str(tmp_path / "cache"), "--count", "2", *common])
    assert cached.exit_code == 0, cached.output
    items = CachedClips(tmp_path / "cache")
    assert len(items) == 2 and items[1]["rgba"].shape == (4, 16, 4, 24, 24) and items[0]["noun"] == "shark"
    sheet = run(app, ["sheet", "--out", str(tmp_path / "s.png"), "--rows", "2", *common])
    assert sheet.exit_code == 0 and (tmp_path / "s.png").stat().st_size > 1000


def test_a_folder_without_models_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["pack", "--source", str(tmp_path)])
    assert result.exit_code != 0 and "holds no .glb" in result.output
