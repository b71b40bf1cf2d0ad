"""Study files on disk: reading one with everything wrong told in a sentence, writing one."""

import os
import re
import reprlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from studio.study.schema import StudyFile
from t4d.errors import InputError

MEDIA_NAME = re.compile(r"media/[0-9a-f]{24}\.(mp4|png)")
MAX_BYTES = 4 * 2**20


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, of which the plain loader keeps the last."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    loader.flatten_mapping(node)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise InputError(f"'{key}' is given twice{node.start_mark}; give it once.")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_study(path: Path) -> StudyFile:
    """Reads and validates a study file.

    Args:
        path: the YAML file.

    Raises:
        InputError: missing, not YAML, or not a study; the sentence names the first wrong entry.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES // 2**20} MB; a study file is a short YAML file.")
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"The study file {path} cannot be read ({why}); give the path of a YAML file.") from error
    try:
        entries = yaml.load(source, _Loader)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is not YAML ({' '.join(str(error).split())[:300]}); correct that line.") from error
    if not isinstance(entries, dict):
        raise InputError(f"{path} holds no entries; a study file begins with 'title:', 'methods:' and 'items:'.")
    return parse_study(entries, str(path))


def parse_study(entries: dict[str, Any], name: str) -> StudyFile:
    """Validates a study's entries.

    Raises:
        InputError: the first wrong entry, by its place.
    """
    try:
        return StudyFile.model_validate(entries)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] in ("missing", "value_error") else f" (found {_short(first['input'])})"
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        more = f"; {error.error_count() - 1} more" if error.error_count() > 1 else ""
        raise InputError(f"{name}: {place + ': ' if place else ''}{message}{found}{more}.") from error


def write_study(study: StudyFile, path: Path) -> Path:
    """Writes a study file, readable by its owner only (it names the methods), replacing the old one at once."""
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(dump_study(study))
    part.replace(path)
    return path


def dump_study(study: StudyFile) -> str:
    """A study file's YAML, every field spelled out."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _short(value: object) -> str:
    shown = reprlib.repr(value)  # bounded: YAML aliases can make a small file a gigantic value
    return shown if len(shown) <= 60 else shown[:57] + "..."
