"""A folder of objects to animate: its files and their sentences."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from t4d.errors import InputError
from t4d.geometry.object3d import SUFFIXES


def objects(folder: Path) -> list[Path]:
    """The object files of a folder by name; two of one name would share a run folder and are refused."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in files if path.suffix.lower() in SUFFIXES and path.is_file()]
    names = [path.stem for path in found]
    if (double := [name for name in names if names.count(name) > 1]) or not found:
        what = f"two objects called {double[0]}" if double else f"no object file ({', '.join(SUFFIXES)})"
        raise InputError(f"{folder.name} holds {what}; give a folder of objects with different names.")
    return found


def read_prompts(folder: Path) -> dict[str, str]:
    """Sentences by object name; empty without a prompts.json."""
    path = folder / "prompts.json"
    try:
        return TypeAdapter(dict[str, str]).validate_json(path.read_bytes()) if path.is_file() else {}
    except ValidationError as error:
        raise InputError(f'{path.name} cannot be used; expected {{"NAME": "sentence", ...}}.') from error
