"""The dataset program end to end."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from sample_items import centre, make_item, same, write_disc_video
from typer.testing import CliRunner

from t4d.data.cache import CachedClips, save_item
from t4d.data.dataset import ClipDataset
from t4d.data.latents import WithLatents, autoencoder_digest
from t4d.data.mv_video import INFO
from t4d.data.sample import quantised
from t4d.data.shards import ShardClips
from t4d.data.video_folder import CAPTIONS
from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.weights import save_module
from t4d.errors import InputError
from t4d.paths import REPO
from t4d.tracking.file import write_tracks_file
from t4d.tracking.queries import grid_queries
from t4d.tracking.tracks import Tracks
from train.dataset import app


def run(*words: object) -> str:
    """What the program prints; its errors are raised."""
    result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*words: object) -> str:
    with pytest.raises(InputError) as error:
        run(*words)
    return str(error.value)


@pytest.mark.data
def test_pack_cache_sheet(shared_data, tmp_path):
    source = tmp_path / "source" / "sea"
    source.mkdir(parents=True)
    shutil.copy(shared_data / "data/rigs_cc0/fish_pack/Shark.glb", source)
    shutil.copy(shared_data / "data/real3d/edge_cases/box_vertex_colors.glb", source)  # has no animation
    packed = run("pack", "--source", source.parent, "--out", tmp_path / "rigs")
    assert "left out: box_vertex_colors.glb has no animation" in packed
    index = json.loads((tmp_path / "rigs/index.json").read_text())
    assert [r["source"] for r in index["rigs"]] == ["sea/Shark.glb"] and "sea/Shark.glb" in index["split"]["train"]
    common = ("--rigs", tmp_path / "rigs", "--procedural", 0, "--side", 24)
    run("cache", "--out", tmp_path / "cache", "--count", 2, *common)
    items = CachedClips(tmp_path / "cache")
    assert len(items) == 2 and items[1]["rgba"].shape == (4, 16, 4, 24, 24) and items[0]["noun"] == "shark"
    run("sheet", "--out", tmp_path / "s.png", "--rows", 2, *common)
    assert (tmp_path / "s.png").stat().st_size > 1000


def test_a_folder_without_models_is_refused(tmp_path):
    assert "holds no .glb" in refused("pack", "--source", tmp_path)


def test_a_cache_holds_clips_of_one_kind(tmp_path):
    common = ("--out", tmp_path / "c", "--side", 16, "--views", 1, "--frames", 2)
    run("cache", *common, "--count", 1)
    run("cache", *common, "--count", 1, "--start", 1)  # another process of the same job
    first = (tmp_path / "c/000000.npz").read_bytes()
    said = refused("cache", *common, "--count", 3, "--seed", 5)
    assert "c holds clips made in another way" in said and "'seed': 5" in said and said.endswith("give an empty folder")
    assert len(CachedClips(tmp_path / "c")) == 2 and (tmp_path / "c/000000.npz").read_bytes() == first
    (tmp_path / "c/index.json").unlink()
    assert "holds clips of unknown origin" in refused("cache", *common, "--count", 3)


def test_options_out_of_range_are_sentences(tmp_path):
    sizes = "4 views of 16 frames of 33x33 pixels with flow cells of 2"
    assert sizes in refused("cache", "--out", tmp_path / "c", "--side", 33)
    assert sizes in refused("shards", "--out", tmp_path / "s", "--count", 1, "--size", 33)
    assert refused("sheet", "--out", tmp_path / "s") == "--out is s; give the name of a .png file"
    for words in (["cache", "--views", "0"], ["cache", "--count", "-1"], ["sheet", "--rows", "0"]):
        result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "x.png")])
        assert result.exit_code == 2 and f"'{words[1]}'" in result.output


def test_trackers_are_judged_before_any_clip_is_read(tmp_path):
    (tmp_path / "c").mkdir()
    for i in range(2):
        save_item(make_item(i), tmp_path / "c" / f"{i:06d}.npz")
    track = ("track", "--clips", tmp_path / "c", "--out", tmp_path / "t")
    assert "tracker 'flw' is not known" in refused(*track, "--tracker", "flw")
    assert "give ultrafast, fast or medium" in refused(*track, "--set", "preset=slow")
    assert "--set 'side=[' cannot be read" in refused(*track, "--set", "side=[")
    one = refused(*track, "--tracker", "file", "--set", "path=a.npz")
    assert "one file of tracks was given for 2 clips" in one and "{name}.npz" in one
    assert not list(tmp_path.glob("t/*.tar"))


@pytest.mark.parametrize("command", ["convert", "videos", "track"])
def test_help_names_the_licence_of_cotracker3(command):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert "cotracker3" in shown and "CC-BY-NC" in shown


def test_rendered_clips_to_shards(tmp_path):
    """Shards hold what rendering gives; the cache of the same clips packs into the same pictures."""
    small = ("--views", 2, "--frames", 3, "--seed", 4)
    out = run("shards", "--out", tmp_path / "s", "--count", 3, "--size", "40x24", *small, "--grid", 5, "--per-shard", 2)
    assert "clips-000001.tar: 1 clips" in out and "3 clips in 2 shards" in out and "0 left out" in out
    data = ClipDataset(None, side=(24, 40), views=2, frames=3, grid=5, seed=4, procedural_fraction=1.0)
    shards = ShardClips(tmp_path / "s")
    assert shards.made["size"] == "40x24" and shards.made["count"] == 3
    for i in range(3):
        assert torch.equal(quantised(data[i]["rgba"]), quantised(shards[i]["rgba"]))
        assert torch.equal(data[i]["tracks"], shards[i]["tracks"]) and data[i]["caption"] == shards[i]["caption"]
    again = run("shards", "--out", tmp_path / "t", "--clips", tmp_path / "s", "--count", 2)
    assert "2 clips in 1 shards" in again and same(ShardClips(tmp_path / "t")[1], shards[1])
    run("cache", "--out", tmp_path / "c", "--count", 1, "--side", 24, *small)
    run("shards", "--out", tmp_path / "u", "--clips", tmp_path / "c")
    assert same(ShardClips(tmp_path / "u")[0], CachedClips(tmp_path / "c")[0])
    assert "made in another way" in refused("shards", "--out", tmp_path / "s", "--count", 4)
    assert "say how many clips" in refused("shards", "--out", tmp_path / "x")
    assert "is no folder" in refused("shards", "--out", tmp_path / "x", "--clips", tmp_path / "nowhere")
    assert "holds no cached clips" in refused("shards", "--out", tmp_path / "x", "--clips", REPO)
    assert "--size is '8x'" in refused("shards", "--out", tmp_path / "x", "--count", 4, "--size", "8x")


def test_latents(tmp_path):
    """Exact latents of rendered flow, joined with the clips they are of and packed beside them."""
    torch.manual_seed(1)
    autoencoder = ReferenceAutoencoder(widths=(8, 8, 8), working_side=32, image_side=32)
    save_module(autoencoder, tmp_path / "a", torch.float32)
    run("shards", "--out", tmp_path / "s", "--count", 2, "--size", 32, "--views", 2, "--frames", 3)
    words = ("latents", "--clips", tmp_path / "s", "--autoencoder", tmp_path / "a", "--out", tmp_path / "l")
    assert "1 clips encoded, 0 were there" in run(*words, "--count", 1)
    assert "1 clips encoded, 1 were there" in run(*words)
    clips, digest = ShardClips(tmp_path / "s"), autoencoder_digest(autoencoder)
    joined = WithLatents(clips, tmp_path / "l", digest)
    for i in range(2):
        item = clips[i]
        coverage = torch.nn.functional.avg_pool2d(item["rgba"][:, :, 3:].flatten(0, 1), 2)
        truth = autoencoder.latents_of_flow(item["flow"].flatten(0, 1), coverage).unflatten(0, (2, 3))
        truth[:, 0] = 0
        assert truth.abs().max() > 0.1
        assert torch.equal(joined[i]["latents"], truth.half())
    run(
        "shards", "--out", tmp_path / "full", "--clips", tmp_path / "s", "--latents", tmp_path / "l",
        "--autoencoder", tmp_path / "a",
    )  # fmt: skip
    full = ShardClips(tmp_path / "full")
    assert same(full[1], joined[1]) and full.made["latents"] == digest
    assert "of autoencoder" in refused("latents", "--clips", tmp_path / "s", "--out", tmp_path / "l")  # mini's
    assert "--device tpu9 cannot be used" in refused(*words, "--device", "tpu9")


def test_videos_to_tracked_shards(tmp_path):
    """MV-Video's layout and a plain folder of the same videos give the same clips; tracks are added by two trackers."""
    videos = tmp_path / "mv" / "videos"
    info = {}
    for name, there in (("u1", True), ("u2", False), ("u3", True)):
        angle = {"elv": 15.0, "azi_start": 0.0}
        info[name] = {"anim": {"00": {"angle": angle, "text_prompt": f"disc {name}"}}}
        for view in range(2 if there else 1):
            write_disc_video(videos / name / "00" / f"view_{view}.mp4", view, 5)
    (tmp_path / "mv" / INFO).write_text(json.dumps(info))
    size = ("--size", "80x48", "--frames", 5)
    out = run("convert", "--source", tmp_path / "mv", "--out", tmp_path / "a", *size, "--views", 2, "--around", 2)
    assert (
        "left out clip 1: u2/00/view_1.mp4 is missing" in out and "2 clips in 1 shards" in out and "1 left out" in out
    )
    clips = ShardClips(tmp_path / "a")
    assert [clips[i]["name"] for i in range(2)] == ["u1", "u3"] and "tracks" not in clips[0] and "flow" not in clips[0]
    assert centre(clips[1]["rgba"][1, 4, 3]) == pytest.approx((16, 15), abs=0.3)

    for name in ("u1", "u3"):
        shutil.copytree(videos / name / "00", tmp_path / "mine" / name)
    (tmp_path / "mine" / CAPTIONS).write_text(json.dumps({"u1": "disc u1", "u3": "disc u3"}))
    run("videos", "--source", tmp_path / "mine", "--out", tmp_path / "b", *size, "--background", "255,255,255")
    assert torch.equal(ShardClips(tmp_path / "b")[1]["rgba"], clips[1]["rgba"])
    assert torch.equal(ShardClips(tmp_path / "b")[1]["cameras"], clips[1]["cameras"])

    run("track", "--clips", tmp_path / "a", "--out", tmp_path / "flow", "--grid", 7)
    item, queries = ShardClips(tmp_path / "flow")[0], grid_queries(48, 80, 7)
    for view in range(2):
        inside = (queries - torch.tensor([12.0, 14.0 + view])).norm(dim=1)
        valid = item["query_valid"][view]
        assert valid[inside < 7].all() and not valid[inside > 9].any() and valid.any()
        assert torch.equal(item["tracks"][view, 0], queries) and item["visible"][view, 0].equal(valid)
        assert (item["tracks"][view, :, ~valid] == queries[~valid]).all() and not item["visible"][view, :, ~valid].any()

    # somebody else's tracker, a file for each clip, while converting
    moves = queries + torch.arange(5.0)[:, None, None] * torch.tensor([1.0, 0.0])
    for name in ("u1", "u3"):
        seen = torch.ones(2, 5, 49, dtype=torch.bool)
        found = Tracks(moves.expand(2, -1, -1, -1).clone(), seen, torch.ones(2, 49, dtype=torch.bool))
        write_tracks_file(tmp_path / f"{name}.npz", found, (48, 80))
    run(
        "videos", "--source", tmp_path / "mine", "--out", tmp_path / "file", *size, "--grid", 7,
        "--tracker", "file", "--set", f"path={tmp_path}/{{name}}.npz",
    )  # fmt: skip
    item = ShardClips(tmp_path / "file")[1]
    valid = item["query_valid"]
    assert valid.any() and torch.allclose(item["tracks"][1][:, valid[1]], moves[:, valid[1]])
    assert ShardClips(tmp_path / "file").made["tracks"]["tracker"] == "file"

    for words, message in (
        (("--tracker", "exact"), "exact tracks come with rendered clips"),
        (("--tracker", "file", "--set", "path"), "has no '='"),
        (("--background", "white"), "expected auto, alpha or R,G,B"),
        (("--background", "1,2,256"), "expected auto, alpha or R,G,B"),
        (("--sampling", "all"), "expected uniform or stride"),
    ):
        assert message in refused("videos", "--source", tmp_path / "mine", "--out", tmp_path / "x", *words)
    assert "expected numbers of views" in refused("convert", "--source", ".", "--out", tmp_path / "x", "--first", "a")


def test_started_as_a_file_bad_input_is_one_sentence(tmp_path):
    words = [sys.executable, str(REPO / "train/dataset.py"), "pack", "--source", str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
