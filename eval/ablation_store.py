"""Results of many fits on disk, shared by several processes: append-only lines, claims, and a cache of tensors."""

import ast
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor

import t4d

PACKAGE = Path(t4d.__file__).parent


def digest(value: Any) -> str:
    """16 hexadecimal digits of a JSON value's sha256, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def source_digest(folders: tuple[str, ...]) -> str:
    """Digest of what the code of some folders of the package does: comments, docstrings and layout left out."""
    texts = []
    for folder in folders:
        for path in sorted((PACKAGE / folder).glob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                    if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                        body[0].value.value = ""
            texts.append([path.name, ast.unparse(tree)])
    return digest(texts)


class Store:
    """A work folder: ``fits.jsonl`` with one line per finished fit, claims of running ones, cached tensors.

    Args:
        folder: made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = folder / "fits.jsonl"
        for name in ("claims", "cache"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._append_lock = FileLock(folder / "fits.lock")

    def read(self) -> dict[str, dict[str, Any]]:
        """Finished fits by key; a last line that a killed process left half written is passed over."""
        found = {}
        if self.lines.is_file():
            for line in self.lines.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    continue
                found[record["key"]] = record
        return found

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one finished fit; its "key" names it."""
        text = json.dumps(record, allow_nan=False)
        with self._append_lock, self.lines.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell() and self.lines.read_bytes()[-1:] != b"\n":
                file.write(b"\n")  # after a half-written line
            file.write(text.encode() + b"\n")

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process may do the work of a key: not finished, and no other process is at it.

        The claim is a file lock, which the system releases when its process dies.
        """
        lock = FileLock(self.folder / "claims" / f"{digest(key)}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield key not in self.read()
        finally:
            lock.release()

    def tensors(self, name: str, key: Any, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors of a cache entry, made once by whoever needs them first.

        Args:
            name: of the file, for people.
            key: JSON value of everything the tensors depend on.
            make: called without an entry.
        """
        path = self.folder / "cache" / f"{name}-{digest(key)}.safetensors"
        with FileLock(f"{path}.lock"):
            if not path.is_file():
                made = {part: tensor.detach().cpu().contiguous() for part, tensor in make().items()}
                partial = path.with_suffix(".partial")
                save_file(made, partial)
                partial.replace(path)
        return load_file(path)
