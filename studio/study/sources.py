"""A study file from what methods have produced: run folders of this project, or any folders of videos."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from studio.study.folder import parse_study
from studio.study.schema import StudyFile
from studio.study.video import PICTURES, VIDEOS
from t4d.errors import InputError

Video = Literal["orbit", "clip"]


@dataclass(frozen=True)
class Result:
    """One video of one method.

    Attributes:
        method: name.
        object: name of the object file, or of the video.
        prompt: the sentence; empty where the folder does not tell.
        video: path.
        made: for choosing the newest of several.
        stopped: its fit was ended before its last iteration.
    """

    method: str
    object: str
    prompt: str
    video: Path
    made: float
    stopped: bool = False


@dataclass(frozen=True)
class Draft:
    """A study made from folders, with what was left out or guessed."""

    study: StudyFile
    notes: tuple[str, ...]


def find_results(folder: Path, method: str | None = None, video: Video = "orbit") -> list[Result]:
    """The results in a folder.

    Args:
        folder: run folders (each with run.json; the method is the run's variant), or OBJECT.mp4 files, or, where
            ``method`` is None, one folder of either per method.
        method: name of the method that all belong to; None takes variants, or the subfolders' names.
        video: which video of a run folder: "orbit" of the 4D asset, or the four fixed views of the "clip".

    Raises:
        InputError: nothing usable there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give folders with videos or runs, or NAME=FOLDER.")
    inside = [folder, *sorted(entry for entry in folder.iterdir() if entry.is_dir())]
    found = [result for entry in inside if (result := _run(entry, method, video)) is not None]
    if not found and method is not None:
        found = [
            Result(method, file.stem, _beside(file), file, file.stat().st_mtime)
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in VIDEOS
        ]
    if not found and method is None:
        for entry in inside[1:]:
            if any(file.suffix.lower() in VIDEOS or (file / "run.json").is_file() for file in entry.iterdir()):
                found += find_results(entry, entry.name, video)
    if not found:
        raise InputError(
            f"{folder} holds neither finished runs (run.json with {video}.mp4) nor videos "
            f"({'METHOD/OBJECT' if method is None else 'OBJECT'}.mp4); give another folder."
        )
    return found


def draft_study(
    folders: Sequence[str | Path],
    base: Path,
    *,
    video: Video = "orbit",
    prompts: Mapping[str, str] | None = None,
    references: Path | None = None,
    **fields: Any,
) -> Draft:
    """A study of every object that all methods have a video of.

    Args:
        folders: as `find_results` takes them; ``NAME=FOLDER`` gives the method's name.
        base: folder of the study file, which its paths are relative to.
        video: as in `find_results`.
        prompts: object -> sentence, for folders that do not tell.
        references: folder with OBJECT.png; where one is missing, the first frame of the first method's video is shown.
        fields: further entries of the study file.

    Raises:
        InputError: nothing usable, fewer than one common object, or an object without a sentence.
    """
    found: list[Result] = []
    for entry in folders:
        name, _, path = str(entry).rpartition("=")
        found += find_results(Path(path), name or None, video)
    methods = list(dict.fromkeys(result.method for result in found))
    notes: list[str] = []
    several = {  # one object with several sentences is several items
        result.object
        for result in found
        if len({other.prompt for other in found if other.object == result.object and other.prompt}) > 1
    }
    items: dict[tuple[str, str], dict[str, Result]] = {}
    for result in sorted(found, key=lambda result: (not result.stopped, result.made)):  # a finished one before a newer
        table = items.setdefault((result.object, result.prompt if result.object in several else ""), {})
        if result.method in table:
            taken = "finished" if table[result.method].stopped and not result.stopped else "newer"
            notes.append(f"{result.method} has {result.object} twice; the {taken} one is taken.")
        table[result.method] = result
    entries = []
    for (name, _), table in sorted(items.items()):
        missing = [method for method in methods if method not in table]
        if missing:
            notes.append(f"{name} is left out: {', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no video.")
            continue
        prompt = next((result.prompt for result in table.values() if result.prompt), "") or (prompts or {}).get(
            name, ""
        )
        if not prompt:
            raise InputError(
                f"No sentence is known for {name}; write it to {name}.txt beside a video, or give a YAML file of "
                "'object: sentence' lines as --prompts."
            )
        reference = _reference(references, name) or table[methods[0]].video
        entries.append(
            {
                "id": _unused(f"{name} {prompt}" if name in several else name, [entry["id"] for entry in entries]),
                "object": name,
                "prompt": prompt,
                "reference": _relative(reference, base),
                "videos": {_slug(method): _relative(table[method].video, base) for method in methods},
            }
        )
    notes += [
        f"{result.object} of {result.method} was stopped before its fit was finished."
        for table in items.values()
        for result in table.values()
        if result.stopped
    ]
    if not entries:
        raise InputError(f"No object has a video of every method ({', '.join(methods)}); {' '.join(notes)}")
    if references is None:
        notes.append("The reference pictures are the first frames of the first method's videos.")
    study = {"methods": [{"id": _slug(method), "label": method} for method in methods], "items": entries, **fields}
    return Draft(parse_study(study, "The study"), tuple(dict.fromkeys(notes)))


def read_prompts(path: Path) -> dict[str, str]:
    """Sentences from a YAML (or JSON) file of ``object: sentence`` lines.

    Raises:
        InputError: it is not such a file.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}); give a YAML file.") from error
    if not isinstance(found, dict) or not all(isinstance(x, str) for pair in found.items() for x in pair):
        raise InputError(f"{path} does not hold 'object: sentence' lines; write one line per object.")
    return found


def _run(folder: Path, method: str | None, video: Video) -> Result | None:
    manifest, file = folder / "run.json", folder / f"{video}.mp4"
    if not (manifest.is_file() and file.is_file()):
        return None
    try:
        run = json.loads(manifest.read_text(encoding="utf-8"))
        if run["status"] not in ("done", "stopped"):
            return None
        name = Path(run["inputs"][0]["name"]).stem
        made, stopped = file.stat().st_mtime, run["status"] == "stopped"
        return Result(method or str(run["config"]["variant"]), name, str(run["prompt"]), file, made, stopped)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{manifest} is not a run's manifest ({error!r}); leave that folder out.") from error


def _beside(video: Path) -> str:
    text = video.with_suffix(".txt")
    return " ".join(text.read_text(encoding="utf-8").split()) if text.is_file() else ""


def _reference(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    found = [folder / f"{name}{suffix}" for suffix in PICTURES if (folder / f"{name}{suffix}").is_file()]
    if not found:
        raise InputError(f"{folder} has no picture of {name} ({name}.png); add it or leave --references out.")
    return found[0]


def _relative(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path.resolve(), base.resolve())).as_posix()


def _slug(text: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-._+")[:60]
    return slug or "x"


def _unused(text: str, used: Sequence[str]) -> str:
    name = slug = _slug(text)
    count = 2
    while name in used:
        name, count = f"{slug[:56]}-{count}", count + 1
    return name
