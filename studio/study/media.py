"""Preparing a study: every video and picture made alike, under names that tell nothing, in a folder of its own."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from studio.study.folder import MEDIA_NAME, read_study, write_study
from studio.study.pictures import on_square, plain_background
from studio.study.schema import StudyFile, VideoSpec
from studio.study.store import has_begun
from studio.study.video import PICTURES, VIDEOS, moments, read_frames, write_plain_video
from t4d.errors import InputError

_STAMP = 1_600_000_000  # one time for all files: when a file was made could tell its method


@dataclass(frozen=True)
class Source:
    """A file that the study shows.

    Attributes:
        role: "item/method", "item/reference" or "check/id".
        path: where it is.
        given: as the study file names it.
        method: method id; empty for references and checks.
        video: False for a reference picture (of a video its first frame is taken).
    """

    role: str
    path: Path
    given: str
    method: str
    video: bool


@dataclass(frozen=True)
class Prepared:
    """A study folder that can be served.

    Attributes:
        folder: holds study.yaml, private.json and media/.
        study: with the paths of the prepared media.
        notes: what may tell methods apart or surprise, as sentences.
        made: number of media files written now; others were there already.
    """

    folder: Path
    study: StudyFile
    notes: tuple[str, ...]
    made: int


def prepare(path: Path, folder: Path | None = None, progress: Callable[[str], None] = lambda line: None) -> Prepared:
    """Checks a study file and everything it names, and makes the folder that is served.

    Args:
        path: the study file.
        folder: made if missing; beside the study file, with its name, where not given. A second call makes only what is
            missing or has changed. Where raters have answered already, only texts, completion and the closing date may
            differ from before.
        progress: called with a line per file.

    Returns:
        The folder and its study.

    Raises:
        InputError: the study file or one of its files cannot be used, or the design differs from that of
            stored answers.
    """
    path = Path(path)
    study = read_study(path)
    folder = Path(folder) if folder is not None else path.with_suffix("")
    if folder.resolve() == path.parent.resolve():
        raise InputError(f"{folder} holds the study file itself; give the prepared study a folder of its own (--out).")
    sources = list(_sources(study, path.parent))
    if any(MEDIA_NAME.fullmatch(source.given) for source in sources):
        raise InputError(f"{path} belongs to a prepared study already; serve its folder {path.parent}.")
    for source in sources:
        _check_source(source)
    private = _read_private(folder / "private.json")
    names = {s.role: _name(private["salt"], study, s) for s in sources}
    checked = study.model_copy(update=_with_media(study, names))
    _check_answers(folder, checked)
    media = folder / "media"
    media.mkdir(parents=True, exist_ok=True)
    made, facts = 0, dict(private["media"])
    for source in sources:
        name = names[source.role]
        target = media / name
        if name not in facts or not target.is_file() or _digest(target) != facts[name]["sha256"]:
            progress(f"{source.role}: {source.given}")
            facts[name] = {"role": source.role, "method": source.method, "source": source.given}
            facts[name] |= _convert(source, study.video, target)
            facts[name] |= {"bytes": target.stat().st_size, "sha256": _digest(target)}
            made += 1
    wanted = set(names.values())
    _pad_alike(media, names, sources, facts)
    for name in wanted:
        os.utime(media / name, (_STAMP, _STAMP))
    _write_private(folder / "private.json", {"salt": private["salt"], "media": {n: facts[n] for n in sorted(wanted)}})
    write_study(checked, folder / "study.yaml")
    for file in media.iterdir():  # of an earlier state that nobody has seen: answers fix the names
        if file.name not in wanted:
            file.unlink()
    return Prepared(folder, checked, tuple(_notes(facts[name] for name in names.values())), made)


def _sources(study: StudyFile, base: Path) -> Iterator[Source]:
    for item in {item.id: item for item in (*study.items, *study.practice_items())}.values():
        yield Source(f"{item.id}/reference", base / item.reference, item.reference, "", False)
        for method, video in item.videos.items():
            yield Source(f"{item.id}/method/{method}", base / video, video, method, True)
    for check in study.checks:
        if check.video is not None:
            yield Source(f"check/{check.id}", base / check.video, check.video, "", True)


def _check_source(source: Source) -> None:
    kinds = VIDEOS if source.video else VIDEOS + PICTURES
    if not source.path.is_file():
        raise InputError(f"{source.path}, the {source.role} of the study, is not there; correct its path.")
    if source.path.suffix.lower() not in kinds:
        what = "video" if source.video else "picture"
        raise InputError(f"{source.path} is no {what} file; {what}s end in {', '.join(kinds)}.")


def _name(salt: str, study: StudyFile, source: Source) -> str:
    # Keyed with a secret: whoever knows the study file's ids and seed cannot compute which name is which method.
    # The content and its treatment are part of the name: answers never come to stand for other pictures.
    spec = study.video.model_dump_json()
    what = f"{study.seed}/{source.role}/{_digest(source.path)}/{spec}"
    name = hashlib.blake2b(what.encode(), key=bytes.fromhex(salt), digest_size=12).hexdigest()
    return name + (".mp4" if source.video else ".png")


def _with_media(study: StudyFile, names: dict[str, str]) -> dict:
    def item(entry):
        videos = {method: f"media/{names[f'{entry.id}/method/{method}']}" for method in entry.videos}
        return entry.model_copy(update={"reference": f"media/{names[f'{entry.id}/reference']}", "videos": videos})

    return {
        "items": tuple(item(entry) for entry in study.items),
        "practice": tuple(entry if isinstance(entry, str) else item(entry) for entry in study.practice),
        "checks": tuple(
            check if check.video is None else check.model_copy(update={"video": f"media/{names[f'check/{check.id}']}"})
            for check in study.checks
        ),
    }


def _check_answers(folder: Path, checked: StudyFile) -> None:
    """Refuses to change a design that answers belong to."""
    if not has_begun(folder):
        return
    before = read_study(folder / "study.yaml")
    if before.design_digest() != checked.design_digest():
        changed = [
            name
            for name in type(checked).model_fields
            if getattr(before, name) != getattr(checked, name) and name not in StudyFile.FREE
        ]
        raise InputError(
            f"{folder} holds answers to another design (changed: {', '.join(changed)}); prepare the changed study in a "
            "folder of its own (--out)."
        )


def _convert(source: Source, spec: VideoSpec, target: Path) -> dict:
    """Writes one media file and tells what went in."""
    frames, fps = read_frames(source.path)
    border = plain_background(frames[..., :3]) if (frames[..., 3] == 255).all() else None
    facts = {
        "frames": len(frames),
        "fps": round(fps, 3),
        "width": frames.shape[2],
        "height": frames.shape[1],
        "background": None if border is None else [round(float(value)) for value in border],
        "transparent": bool((frames[..., 3] < 255).any()),
    }
    part = target.with_name(f".{target.name}.part")
    if source.video:
        chosen = frames[moments(source.path, len(frames), fps, spec)]
        write_plain_video(part, on_square(chosen, spec.side, spec.colour), spec)
    else:
        picture = on_square(frames[:1], spec.side, spec.colour)[0]
        Image.fromarray(picture).save(part, format="PNG", optimize=True)
    part.replace(target)
    return facts


def _pad_alike(media: Path, names: dict[str, str], sources: list[Source], facts: dict[str, dict]) -> None:
    """Makes the videos of an item equally long in bytes: how well a method compresses (its noise, its blur) would tell
    it in ``Content-Length``. What is added is a ``free`` box, which players skip (ISO/IEC 14496-12, 8.1.2)."""
    items: dict[str, set[str]] = {}
    for source in sources:
        if source.video:
            items.setdefault(source.role.split("/method/")[0], set()).add(names[source.role])
    for alike in items.values():
        own = {name: facts[name].setdefault("bytes", (media / name).stat().st_size) for name in alike}
        wanted = max(own.values()) + 8 if len(alike) > 1 else max(own.values())  # a box takes 8 bytes at least
        for name, size in own.items():
            if (media / name).stat().st_size == wanted:
                continue
            with (media / name).open("r+b") as file:
                file.truncate(size)
                file.seek(size)
                file.write((wanted - size).to_bytes(4, "big") + b"free" + bytes(wanted - size - 8))
            facts[name]["sha256"] = _digest(media / name)


def _notes(facts: Iterator[dict]) -> Iterator[str]:
    """Differences between the methods' sources that survive into the prepared videos."""
    by_method: dict[str, list[dict]] = {}
    for entry in facts:
        if entry["method"]:
            by_method.setdefault(entry["method"], []).append(entry)
    for key, what in (("frames", "frames"), ("width", "pixels width")):
        values = {method: sorted({entry[key] for entry in entries}) for method, entries in by_method.items()}
        if len({tuple(v) for v in values.values()}) > 1:
            told = "; ".join(f"{method}: {_range(v)}" for method, v in values.items())
            yield f"The methods' videos differ in their number of {what} ({told}), which raters may see."
    scenes = [
        m for m, entries in by_method.items() if any(not e["transparent"] and not e["background"] for e in entries)
    ]
    if scenes and len(scenes) < len(by_method):
        yield f"Videos of {', '.join(scenes)} have no plain background, those of others do, which raters may see."
    plain = {m: {tuple(e["background"]) for e in entries if e["background"]} for m, entries in by_method.items()}
    if len({tuple(sorted(colours)) for colours in plain.values()}) > 1:
        yield "The methods' backgrounds differed and were replaced; for clean edges render them on one background."


def _range(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_private(path: Path) -> dict:
    if not path.is_file():
        return {"salt": secrets.token_hex(32), "media": {}}
    try:
        found = json.loads(path.read_text())
        bytes.fromhex(found["salt"])
        return {"salt": found["salt"], "media": dict(found["media"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged; restore it, or delete the study's folder where nobody has answered."
        ) from error


def _write_private(path: Path, private: dict) -> None:
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(private, file, indent=1)
    part.replace(path)
