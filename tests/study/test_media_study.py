"""Prepared media: alike in everything but their pictures, under names that tell nothing."""

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from PIL import Image
from study_rating import begin, rate_all, submission
from study_samples import METHODS, moving_square

from studio.study.media import Prepared, prepare
from studio.study.opening import prepared_folder
from studio.study.pictures import on_square, plain_background
from studio.study.schema import VideoSpec
from studio.study.service import StudyService
from studio.study.video import moments, read_frames, write_plain_video
from t4d.errors import InputError

SPEC = {"side": 96, "fps": 8, "seconds": 1.0, "crf": 4}


def encode(path: Path, frames: np.ndarray, fps: int, codec: str, title: str = "") -> None:
    """A video as some other program writes it."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        if title:
            container.metadata["title"] = container.metadata["comment"] = title
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuva420p" if frames.shape[3] == 4 else "yuv420p"
        stream.options = {"crf": "4", "b": "0"}
        for image in frames:
            form = "rgba" if frames.shape[3] == 4 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=form)))
        container.mux(stream.encode(None))


def write_yaml(root: Path, videos: dict[str, str], reference: str = "picture.png", **fields) -> Path:
    item = {"id": "fox", "prompt": "A fox runs.", "reference": reference, "videos": videos}
    entries = {"methods": [{"id": name} for name in videos], "items": [item], "video": SPEC, **fields}
    path = root / "walrus.yaml"
    path.write_text(yaml.safe_dump(entries))
    return path


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """One object by three methods that differ in everything a format can differ in."""
    square = moving_square(16, 64)
    wide = np.full((16, 64, 128, 3), 255, np.uint8)
    wide[:, :, 32:96] = moving_square(16, 64, background=255)
    clear = np.concatenate([moving_square(16, 64), np.full((16, 64, 64, 1), 255, np.uint8)], axis=3)
    clear[(clear[..., :3] == 128).all(axis=3)] = 0
    encode(tmp_path / "zebrafish" / "fox.mp4", square, 8, "libx264", title="zebrafish secret")
    encode(tmp_path / "quokka" / "fox.mkv", wide, 30, "libx264", title="quokka secret")
    encode(tmp_path / "narwhal" / "fox.webm", clear, 12, "libvpx-vp9", title="narwhal secret")
    picture = Image.fromarray(clear[0])
    exif = Image.Exif()
    exif[0x010E] = "zebrafish camera"
    picture.save(tmp_path / "picture.png", exif=exif)
    return write_yaml(tmp_path, {name: f"{name}/fox.{end}" for name, end in zip(METHODS, ("mp4", "mkv", "webm"))})


def test_no_method_is_told_by_the_length_of_its_files(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (8, 96, 96, 3), np.uint8)
    encode(tmp_path / "quokka" / "fox.mp4", noise, 8, "libx264")
    encode(tmp_path / "narwhal" / "fox.mp4", moving_square(8, 96), 8, "libx264")
    Image.fromarray(noise[0]).save(tmp_path / "picture.png")
    study = write_yaml(tmp_path, {"quokka": "quokka/fox.mp4", "narwhal": "narwhal/fox.mp4"})
    videos = [path for role, path in by_role(prepare(study)).items() if "method" in role]
    before = {path: path.read_bytes() for path in videos}
    assert len({len(content) for content in before.values()}) == 1
    sums = [int(np.diff(read_frames(path)[0].astype(int), axis=0).__abs__().sum()) for path in videos]
    assert len(read_frames(videos[0])[0]) == 8 and max(sums) > 5 * min(sums), "the pictures are untouched"
    assert prepare(study).made == 0 and before == {path: path.read_bytes() for path in videos}

    encode(tmp_path / "narwhal" / "fox.mp4", noise[::-1], 8, "libx264")  # what changes is alike again
    videos = [path for role, path in by_role(prepare(study)).items() if "method" in role]
    assert len({path.stat().st_size for path in videos}) == 1 and prepare(study).made == 0


def by_role(found: Prepared) -> dict[str, Path]:
    private = json.loads((found.folder / "private.json").read_text())
    return {entry["role"]: found.folder / "media" / name for name, entry in private["media"].items()}


def test_methods_cannot_be_told_by_format(three):
    found = prepare(three)
    media = by_role(found)
    assert sorted(media) == ["fox/method/narwhal", "fox/method/quokka", "fox/method/zebrafish", "fox/reference"]
    facts, times = set(), set()
    for role, path in media.items():
        assert re.fullmatch(r"[0-9a-f]{24}\.(png|mp4)", path.name)
        content = path.read_bytes().lower()
        assert not any(word.encode() in content for word in (*METHODS, "secret", "camera", "lavf", "fox"))
        times.add(path.stat().st_mtime_ns)
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.size == (96, 96) and picture.mode == "RGB" and not picture.info and not picture.getexif()
            continue
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert len(container.streams) == 1 and not [k for k in container.metadata if k.endswith("title")]
            facts.add(
                (
                    container.format.name,
                    stream.codec_context.name,
                    stream.codec_context.profile,
                    stream.width,
                    stream.height,
                    stream.average_rate,
                    stream.frames,
                    stream.duration,
                    stream.codec_context.pix_fmt,
                    tuple(sorted(container.metadata.items())),
                    tuple(sorted(stream.metadata.items())),
                )
            )
        frames, fps = read_frames(path)
        assert frames.shape == (8, 96, 96, 4) and fps == 8
        corners = frames[:, [0, 0, -1, -1], [0, -1, 0, -1], :3].astype(int)
        assert np.abs(corners - 128).max() <= 2, role
    assert len(facts) == 1 and len(times) == 1
    assert {path.name for path in (found.folder / "media").iterdir()} == {path.name for path in media.values()}


def test_the_pictures_stay_what_they_were(three):
    media = by_role(prepare(three))
    wanted = moving_square(16, 64)[1::2]  # the frames at the middles of eight equal parts
    for method, scale in (("zebrafish", 96 / 64), ("quokka", 96 / 128), ("narwhal", 96 / 64)):
        frames = read_frames(media[f"fox/method/{method}"])[0][..., :3].astype(float)
        for t, frame in enumerate(frames):
            red = frame[..., 0] - frame[..., 2] > 60
            truth = wanted[t, ..., 0].astype(float) - wanted[t, ..., 2] > 60
            ys, xs = np.nonzero(red)
            gy, gx = np.nonzero(truth)
            top = 0 if scale > 1 else 24
            assert abs((xs.mean() + 0.5) - ((gx.mean() + 0.5 + (32 if method == "quokka" else 0)) * scale)) < 1.5
            assert abs((ys.mean() + 0.5) - ((gy.mean() + 0.5) * scale + top)) < 1.5
            assert np.abs(frame[round(ys.mean()), round(xs.mean())] - (200, 60, 30)).max() < 8
    reference = np.asarray(Image.open(media["fox/reference"])).astype(float)
    assert np.abs(reference[48, 18] - (200, 60, 30)).max() < 3 and np.abs(reference[5, 5] - 128).max() == 0


def test_differences_that_survive_are_told(three):
    notes = prepare(three).notes
    assert any(re.search("pixels width .*quokka: 128", note) for note in notes)
    assert any("backgrounds differed" in note for note in notes)


def test_names_come_from_a_secret_and_everything_is_made_once(three, tmp_path):
    first = prepare(three)
    again = prepare(three)
    assert (first.made, again.made) == (4, 0) and again.study == first.study
    before = {path.name: path.read_bytes() for path in (first.folder / "media").iterdir()}
    next((first.folder / "media").glob("*.mp4")).write_bytes(b"damaged")
    assert prepare(three).made == 1
    assert {path.name: path.read_bytes() for path in (first.folder / "media").iterdir()} == before  # byte for byte
    other = prepare(three, tmp_path / "other")
    assert not set(before) & {path.name for path in (other.folder / "media").iterdir()}
    assert (first.folder / "private.json").stat().st_mode & 0o777 == 0o600
    assert {p.name for p in first.folder.iterdir()} == {"media", "private.json", "study.yaml"}
    assert str(tmp_path) not in (first.folder / "study.yaml").read_text()


def test_new_pictures_or_a_new_format_get_new_names(three):
    before = by_role(prepare(three))
    encode(three.parent / "zebrafish" / "fox.mp4", moving_square(16, 64, colour=(0, 200, 0)), 8, "libx264")
    after = by_role(prepare(three))
    changed = {role for role in before if before[role].name != after[role].name}
    assert changed == {"fox/method/zebrafish"} and not before["fox/method/zebrafish"].exists()
    three.write_text(three.read_text().replace("side: 96", "side: 64"))
    smaller = by_role(prepare(three))
    assert not {path.name for path in smaller.values()} & {path.name for path in after.values()}


def test_a_design_may_change_until_somebody_takes_part(three):
    folder = prepare(three).folder
    for seed in (1, 2):
        three.write_text(three.read_text() + f"seed: {seed}\n" if seed == 1 else three.read_text()[:-2] + "2\n")
        assert prepare(three).folder == folder
        service = StudyService(folder)
        service.join()  # looking at the information page fixes nothing
        service.close()
    service = StudyService(folder)
    begin(service)
    service.close()
    three.write_text(three.read_text()[:-2] + "3\n")
    with pytest.raises(InputError, match=r"another design \(changed: items, seed\)|changed: seed"):
        prepare(three)


def test_pictures_do_not_change_under_answers(three):
    folder = prepare(three).folder
    service = StudyService(folder)
    rate_all(service, begin(service))
    rows = service.rows()
    service.close()
    three.write_text(three.read_text() + "title: Better words\n")
    assert prepare(three).study.title == "Better words"
    encode(three.parent / "zebrafish" / "fox.mp4", moving_square(16, 64, colour=(0, 200, 0)), 8, "libx264")
    with pytest.raises(InputError, match=r"holds answers to another design \(changed: items\)"):
        prepare(three)
    service = StudyService(folder)
    assert service.rows() == rows and all((folder / path).is_file() for path in service.media_paths())
    service.close()


def test_an_anchor_has_a_video_of_its_own(three):
    write_plain_video(three.parent / "still.mp4", moving_square(1, 64).repeat(8, axis=0), VideoSpec(fps=8, crf=4))
    check = {"id": "still", "video": "still.mp4", "item": "fox", "criterion": "motion", "at_most": 2}
    entries = yaml.safe_load(three.read_text()) | {"checks": [check]}
    three.write_text(yaml.safe_dump(entries))
    found = prepare(three)
    service = StudyService(found.folder)
    code = begin(service)
    shown = []
    while service.join(code).phase != "done":
        page = service.page(code)
        shown += [video.media for video in page.videos]
        service.answer(code, submission(page, 5))
    assert by_role(found)["check/still"].name in shown and len(set(shown)) == 4
    assert service.flags()[0]["failed_checks"] == ["still"]
    service.close()


def test_a_video_may_be_the_reference(tmp_path):
    write_plain_video(tmp_path / "a.mp4", moving_square(8, 96), VideoSpec(fps=8, crf=4))
    media = by_role(prepare(write_yaml(tmp_path, {"a": "a.mp4"}, reference="a.mp4")))
    picture = np.asarray(Image.open(media["fox/reference"])).astype(float)
    assert np.abs(picture - read_frames(tmp_path / "a.mp4")[0][0, ..., :3]).max() == 0


def test_trimming_keeps_the_speed(tmp_path):
    spec = VideoSpec(side=64, fps=8, seconds=1.0, fit="trim")
    assert moments(tmp_path, 48, 16.0, spec).tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert moments(tmp_path, 48, 4.0, spec).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert moments(tmp_path, 24, 16.0, VideoSpec(fps=8, seconds=1.0)).tolist() == [1, 4, 7, 10, 13, 16, 19, 22]
    with pytest.raises(InputError, match=r"lasts 0\.50 s"):
        moments(tmp_path, 8, 16.0, spec)


def test_a_plain_background_is_told_from_a_scene():
    clip = moving_square(4, 64, background=255)
    found = plain_background(clip)
    assert found is not None and found.tolist() == [255, 255, 255]
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3)).astype(np.uint8)
    assert plain_background(noise) is None
    opaque = np.concatenate([noise, np.full((4, 64, 64, 1), 255, np.uint8)], axis=3)
    assert (on_square(opaque, 64, (128, 128, 128)) == noise).all()


def test_soft_edges_are_unmixed_from_the_old_background():
    """A disc with a soft edge over white comes out as the same disc over grey."""
    y, x = np.mgrid[:96, :96]
    share = np.clip(30.5 - np.hypot(x - 47.5, y - 47.5), 0, 1)[..., None]
    disc = np.array((40.0, 60.0, 160.0))
    over = {level: np.rint(share * disc + (1 - share) * level).astype(np.uint8) for level in (255, 128)}
    white = np.concatenate([over[255], np.full((96, 96, 1), 255, np.uint8)], axis=2)[None]
    result = on_square(white, 96, (128, 128, 128))[0].astype(int)
    difference = np.abs(result - over[128].astype(int)).max(axis=2)
    assert difference.max() <= 24 and (difference > 6).mean() < 0.01
    halo = np.abs(over[255].astype(int) - over[128]).max(axis=2)[(share[..., 0] > 0) & (share[..., 0] < 1)]
    assert halo.mean() > 40  # what it would have been


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "audio", "wrong suffix", "broken picture"])
def test_unusable_files_are_named(tmp_path, kind):
    write_plain_video(tmp_path / "good.mp4", moving_square(8, 64), VideoSpec(fps=8))
    Image.fromarray(moving_square(1)[0]).save(tmp_path / "picture.png")
    bad = {"missing": "none.mp4", "wrong suffix": "bad.exe"}.get(kind, "bad.mp4")
    reference = "picture.png"
    if kind == "empty":
        (tmp_path / "bad.mp4").write_bytes(b"")
    elif kind == "text":
        (tmp_path / "bad.mp4").write_text("hello")
    elif kind == "wrong suffix":
        (tmp_path / "bad.exe").write_text("hello")
    elif kind == "audio":
        with av.open(str(tmp_path / "bad.mp4"), "w") as container:
            stream = container.add_stream("aac", rate=8000)
            container.mux(stream.encode(None))
    elif kind == "broken picture":
        (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
        bad, reference = "good.mp4", "bad.png"
    path = write_yaml(tmp_path, {"a": "good.mp4", "b": bad}, reference=reference)
    with pytest.raises(InputError, match=r"none.mp4|bad"):
        prepare(path)
    assert not (tmp_path / "walrus" / "study.yaml").exists()  # half a study is not served


def test_what_can_be_opened(three, tmp_path):
    folder = prepared_folder(three)
    assert folder == three.with_suffix("") and prepared_folder(folder) == folder
    assert prepared_folder(folder / "study.yaml") == folder
    with pytest.raises(InputError, match="not a prepared study"):
        prepared_folder(tmp_path)
    with pytest.raises(InputError, match="belongs to a prepared study already"):
        prepare(folder / "study.yaml", tmp_path / "x")
    with pytest.raises(InputError, match="folder of its own"):
        prepare(three, three.parent)
