"""Shards: what comes out is what went in, by three readers; broken and malicious files are refused by name."""

import functools
import gzip
import http.server
import io
import json
import shutil
import tarfile
import threading

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image
from sample_items import H, Items, T, V, W, make_item, same
from torch.utils.data import DataLoader

from t4d.data import sample
from t4d.data.sample import decode_item, encode_item
from t4d.data.shard_writer import write_shards
from t4d.data.shards import ShardClips, stream_shards
from t4d.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Seven clips, of which number 3 is broken, in shards of three."""
    out = tmp_path / "shards"
    written = write_shards(Items(7, bad=(3,)), out, made={"from": "test"}, per_shard=3)
    assert (written.shards, written.clips, written.skipped) == (3, 6, [(3, "clip 3 is broken")])
    assert written.size == sum(p.stat().st_size for p in out.glob("*.tar"))
    return out


KEPT = (0, 1, 2, 4, 5, 6)


@pytest.mark.parametrize("flow", [True, False])
@pytest.mark.parametrize("tracks", [True, False])
@pytest.mark.parametrize("latents", [True, False])
def test_item_round_trip(flow, tracks, latents):
    item = make_item(5, flow=flow, tracks=tracks, latents=latents)
    assert same(decode_item(encode_item(item), "x"), item)


def test_only_pictures_and_flow_are_rounded():
    item = make_item(1)
    fine = {**item, "rgba": torch.rand(V, T, 4, H, W), "flow": torch.rand(V, T, 2, 5, 9)}
    fine["flow_valid"] = torch.ones(V, T, 1, 5, 9)
    back = decode_item(encode_item(fine), "x")
    assert (back["rgba"] - fine["rgba"]).abs().max() <= 0.5 / 255 + 1e-6
    assert (back["flow"] - fine["flow"]).abs().max() <= 2**-12  # half a float16 step below 1
    assert torch.equal(back["tracks"], fine["tracks"]) and torch.equal(back["cameras"], fine["cameras"])


def test_format_is_what_other_tools_expect(folder):
    """Read with tarfile, PIL, gzip and safetensors alone."""
    with tarfile.open(folder / "clips-000001.tar") as tar:
        names = tar.getnames()
        content = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names[:4] == ["00000004.view_0.png", "00000004.view_1.png", "00000004.safetensors.gz", "00000004.json"]
    item = make_item(4)
    strip = np.asarray(Image.open(io.BytesIO(content["00000004.view_1.png"])))
    assert strip.shape == (T * H, W, 4)
    assert (strip[2 * H + 7, 11] == (item["rgba"][1, 2, :, 7, 11] * 255).round().numpy()).all()
    arrays = safetensors.numpy.load(gzip.decompress(content["00000004.safetensors.gz"]))
    assert (arrays["tracks"] == item["tracks"].numpy()).all() and arrays["visible"].dtype == bool
    facts = json.loads(content["00000004.json"])
    assert facts["caption"] == "clip 4 läuft" and facts["shape"] == [V, T, H, W]


def test_map_reader_streaming_reader_and_truth_agree(folder):
    clips = ShardClips(folder)
    assert len(clips) == 6 and clips.made["from"] == "test"
    streamed = list(stream_shards([str(p) for p in sorted(folder.glob("*.tar"))]))
    for i, seed in enumerate(KEPT):
        assert same(clips[i], make_item(seed)) and same(streamed[i], clips[i])
    assert same(clips[-1], make_item(6))
    with pytest.raises(IndexError):
        clips[6]


def test_order_of_access_and_workers_do_not_matter(folder):
    """Forked workers would share the file position of a handle that is kept open."""
    clips = ShardClips(folder)
    order = [5, 0, 3, 3, 1, 4, 2, 0, 5, 2, 1, 4]
    alone = [clips[i] for i in order]
    loader = DataLoader(clips, sampler=order, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert all(same(a, b) for a, b in zip(alone, loader, strict=True))
    batch = next(iter(DataLoader(clips, batch_size=2)))
    assert batch["tracks"].shape == (2, V, T, 9, 2) and batch["caption"] == ["clip 0 läuft", "clip 1 läuft"]


def test_index_is_a_help_not_a_need(folder):
    with_index = ShardClips(folder).places
    shutil.copy(folder / "index.json", folder.parent)
    (folder / "index.json").unlink()
    assert [(p.shard, p.key, p.members) for p in ShardClips(folder).places] == with_index
    # another shard under an old name: the index's places are wrong and must not be believed
    shutil.copy(folder.parent / "index.json", folder)
    shutil.copy(folder / "clips-000002.tar", folder / "clips-000000.tar")
    assert [c["name"] for c in (ShardClips(folder)[i] for i in range(4))] == ["n6", "n4", "n5", "n6"]


def test_a_stopped_job_goes_on(tmp_path):
    write_shards(Items(8, bad=(1,)), tmp_path / "whole", made={"a": (1, 2)}, per_shard=2)
    with pytest.raises(RuntimeError, match="killed"):
        write_shards(Items(8, bad=(1,), dies=5), tmp_path / "parts", made={"a": (1, 2)}, per_shard=2)
    assert sorted(p.name for p in (tmp_path / "parts").glob("*.tar")) == ["clips-000000.tar", "clips-000001.tar"]
    assert len(ShardClips(tmp_path / "parts")) == 3
    rest = Items(8, bad=(1,))
    written = write_shards(rest, tmp_path / "parts", made={"a": (1, 2)}, per_shard=2)
    assert rest.asked == [4, 5, 6, 7] and written.clips == 7 and written.skipped == [(1, "clip 1 is broken")]
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()


def test_a_job_killed_before_the_index_goes_on(folder):
    """Killed after a shard got its name and before the index knew of it."""
    whole = {p.name: p.read_bytes() for p in folder.iterdir()}
    index = json.loads(whole["index.json"])
    for left in (index["shards"][:1], []):
        (folder / "index.json").write_text(json.dumps({**index, "shards": left}))
        data = Items(7, bad=(3,))
        write_shards(data, folder, made={"from": "test"}, per_shard=3)
        assert data.asked == list(range(3 * len(left), 7))
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == whole


def test_a_job_without_a_shard_may_be_asked_for_differently(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        write_shards(Items(4, dies=0), tmp_path, made={"size": 33})
    assert write_shards(Items(4), tmp_path, made={"size": 32}).clips == 4
    with pytest.raises(InputError, match="holds shards made in another way"):
        write_shards(Items(4), tmp_path, made={"size": 33})


def test_shards_of_bad_clips_only_are_tried_again(tmp_path):
    with pytest.raises(InputError, match="none of the 2 clips could be written; the first: clip 0 is broken"):
        write_shards(Items(2, bad=(0, 1)), tmp_path, made={}, per_shard=1)
    assert write_shards(Items(2, bad=(1,)), tmp_path, made={}, per_shard=1).skipped == [(1, "clip 1 is broken")]
    repaired = Items(2)
    assert write_shards(repaired, tmp_path, made={}, per_shard=1).clips == 2 and repaired.asked == [1]


def test_worker_processes_write_the_same_bytes(tmp_path):
    lines: list[str] = []
    write_shards(Items(5, bad=(3,)), tmp_path / "a", made={}, per_shard=2, workers=2, said=lines.append)
    write_shards(Items(5, bad=(3,)), tmp_path / "b", made={}, per_shard=2)
    assert "left out clip 3: clip 3 is broken" in lines and len(lines) == 4
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


class Mixed(Items):
    def __getitem__(self, index):
        return make_item(index, side=(H, W if index < 2 else W + 2))


def test_what_the_writer_refuses(folder, tmp_path):
    with pytest.raises(InputError, match="made in another way"):
        write_shards(Items(7), folder, made={"from": "elsewhere"}, per_shard=3)
    with pytest.raises(InputError, match="none of the 2 clips could be written; the first: clip 0 is broken"):
        write_shards(Items(2, bad=(0, 1)), tmp_path / "none", made={})
    for per_shard in (2, 3):  # between shards and within one
        with pytest.raises(InputError, match="kind"):
            write_shards(Mixed(4), tmp_path / f"mixed{per_shard}", made={}, per_shard=per_shard)
    (folder / "index.json").unlink()
    with pytest.raises(InputError, match="made in another way"):
        write_shards(Items(7), folder, made={"from": "test"}, per_shard=3)


def change(**fields):
    return {**make_item(0), **fields}


@pytest.mark.parametrize(
    "item, message",
    [
        ({k: v for k, v in make_item(0).items() if k != "cameras"}, r"lacks \['cameras'\]"),
        (change(extra=1), r"has \['extra'\]"),
        (change(tracks=torch.full((V, T, 9, 2), torch.nan)), "tracks of clip n0 holds values that are not finite"),
        (change(rgba=torch.full((V, T, 4, H, W), 1.5)), "leave 0..1"),
        (change(rgba=torch.full((V, T, 4, H, W), torch.nan)), "not finite"),
        (change(cameras=torch.zeros(V + 1, 16)), r"cameras of clip n0 has shape \[3, 16\]; expected \[2, 16\]"),
        (change(visible=torch.ones(V, T, 8, dtype=torch.bool)), r"visible of clip n0 has shape"),
        ({k: v for k, v in make_item(0).items() if k != "visible"}, r"has \['tracks', 'query_valid'\] alone"),
        (change(flow=torch.full((V, T, 2, H // 2, W // 2), 1e6)), None),
    ],
)
def test_wrong_items_are_refused(item, message):
    if message is None:  # a flow of a million picture widths becomes infinite in float16
        with pytest.raises(InputError, match="not finite"):
            decode_item(encode_item(item), "x")
        return
    with pytest.raises(InputError, match=message):
        encode_item(item)


def test_broken_members_are_refused_by_name(monkeypatch):
    good = encode_item(make_item(0))

    def refused(message, **members):
        with pytest.raises(InputError, match=message):
            decode_item({k: v for k, v in {**good, **members}.items() if v is not None}, "s.tar:7")

    def facts(**fields):
        return json.dumps({**json.loads(good["json"]), **fields}).encode()

    refused(r"s.tar:7 has no view_1.png", **{"view_1.png": None})
    refused(r"s.tar:7.json is not a training clip's", json=b"{")
    refused(r"s.tar:7.json is not a training clip's", json=b"[]")
    refused("format version 9", json=facts(version=9))
    refused("its shape is", json=facts(shape=[1, 10**6, 10**6, 10**6]))
    refused("its shape is", json=facts(shape=[0, 3, 20, 36]))
    refused("view_0.png is 36x60 RGBA; expected 72x60 RGBA", json=facts(shape=[2, 3, 20, 72]))
    refused("its json names", json=facts(fields=["cameras"]))
    refused("view_0.png cannot be read", **{"view_0.png": good["view_0.png"][:200]})
    refused("view_0.png cannot be read", **{"view_0.png": b"GIF89a"})
    refused("safetensors.gz cannot be read", **{"safetensors.gz": good["safetensors.gz"][:-30]})
    refused("safetensors.gz cannot be read", **{"safetensors.gz": gzip.compress(b"\x80\x04pickle")})
    monkeypatch.setattr(sample, "_MOST_BYTES", 1000)
    refused("unpacks to more than 1000 bytes")


def test_broken_shards_are_refused_by_name(folder, tmp_path):
    path = folder / "clips-000001.tar"
    whole = path.read_bytes()
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "a.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(InputError, match=r"a.tar is not a plain tar"):
        ShardClips(tmp_path / "z")
    clips = ShardClips(folder)
    path.write_bytes(whole[:2000])  # cut after opening
    with pytest.raises(InputError, match=r"clips-000001\.tar ends within 00000004"):
        clips[3]
    path.unlink()
    with pytest.raises(InputError, match=r"lacks 1 of its shards \(clips-000001.tar\)"):
        ShardClips(folder)
    index = json.loads((folder / "index.json").read_text())
    for bad in ("{", "[]", '{"version": 7, "made": {}, "shards": []}'):
        (folder / "index.json").write_text(bad)
        with pytest.raises(InputError, match="not an index of shards"):
            ShardClips(folder)
    index["shards"][0]["file"] = "../clips-000000.tar"
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="not an index of shards"):
        ShardClips(folder)
    with pytest.raises(InputError, match="holds no clips in shards"):
        ShardClips(tmp_path / "nothing")


def test_streams_are_dealt_out_and_shuffled(folder):
    urls = [str(p) for p in sorted(folder.glob("*.tar"))]
    loader = DataLoader(stream_shards(urls), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sorted(c["name"] for c in loader) == [f"n{i}" for i in KEPT]
    names = [[c["name"] for c in stream_shards(urls, seed=s, shuffle=4)] for s in (0, 0, 1)]
    assert names[0] == names[1] != names[2] and sorted(names[0]) == sorted(names[2]) == [f"n{i}" for i in KEPT]
    repeated = iter(stream_shards(urls, repeat=True))
    assert [next(repeated)["name"] for _ in range(8)][6:] == ["n0", "n1"]


@pytest.mark.parametrize("url", ["pipe:touch /tmp/owned", "nowhere.tar", "https://a/b.tar'; touch x", "ftp://a/b.tar"])
def test_addresses_that_would_run_something_are_refused(url):
    with pytest.raises(InputError, match="neither a file nor"):
        stream_shards([url])


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset reads https with curl")
def test_shards_stream_over_http(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = list(stream_shards([f"http://127.0.0.1:{server.server_port}/clips-000001.tar"]))
    finally:
        server.shutdown()
        server.server_close()
    assert [c["name"] for c in found] == ["n4", "n5"] and same(found[0], make_item(4))
