"""What visitors upload, brought into a folder of its own: one object file with its materials and textures.

Only names, sizes and archives are judged here. Whether the content is a usable object is `t4d.geometry`'s to say,
in the worker.
"""

import secrets
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from t4d.errors import InputError

MAX_BYTES = 200 * 2**20
MAX_FILES = 64
OBJECTS = (".glb", ".gltf", ".obj", ".ply")
COMPANIONS = (".mtl", ".bin", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tga")
_EXPECTED = "upload a .glb, .gltf, .obj or .ply file, or a .zip of one such file with its materials and textures"


def stage_upload(files: Sequence[Path], session: Path) -> Path:
    """Moves uploaded files into the session's folder, replacing its previous upload.

    Args:
        files: the server's copies of what was chosen at once: one object file with companions beside it, or one .zip.
            They are deleted, whatever happens.
        session: folder of the browser session; made if missing.

    Returns:
        Path of the object file; its folder holds the upload and nothing else.

    Raises:
        InputError: nothing usable, too large, several objects, or an archive that is unsafe or damaged.
    """
    try:
        shutil.rmtree(session, ignore_errors=True)
        folder = session / secrets.token_hex(6)
        folder.mkdir(parents=True)
        if not files:
            raise InputError(f"No file arrived; {_EXPECTED}.")
        total = sum(file.stat().st_size for file in files)
        if total > MAX_BYTES:
            raise InputError(too_large(total))
        archives = [file for file in files if file.suffix.lower() == ".zip"]
        if archives and len(files) > 1:
            raise InputError("A .zip came together with other files; put everything into the one .zip.")
        if archives:
            _extract(archives[0], folder)
        else:
            for file in files:
                _check_name(file.name)
                shutil.move(file, folder / file.name)
        return _only_object(folder)
    except InputError:
        shutil.rmtree(session, ignore_errors=True)
        raise
    except OSError as error:  # the server keeps equal files of two visitors as one, which the other's upload took away
        shutil.rmtree(session, ignore_errors=True)
        raise InputError(f"The upload did not arrive whole ({error.strerror}); upload it again.") from error
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def too_large(size: float) -> str:
    """The sentence for an upload of ``size`` bytes, more than `MAX_BYTES`."""
    return (
        f"The upload has {size / 2**20:.0f} MB; at most {MAX_BYTES / 2**20:.0f} MB are accepted, "
        "so reduce its textures or triangles."
    )


def _extract(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as bundle:
            entries = [entry for entry in bundle.infolist() if not entry.is_dir() and not _is_debris(entry.filename)]
            if len(entries) > MAX_FILES:
                raise InputError(f"{archive.name} holds {len(entries)} files; at most {MAX_FILES} are accepted.")
            left = MAX_BYTES
            for entry in entries:
                left -= _extract_one(bundle, entry, folder, left, archive.name)
    except InputError:
        raise
    except Exception as error:  # zipfile lets through whatever its decompressors and text decoding stumble over
        raise InputError(
            f"{archive.name} is not a readable .zip archive ({' '.join(str(error).split())}); pack it again."
        ) from error


def _extract_one(bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, left: int, archive: str) -> int:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    link = stat.S_ISLNK(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in entry.filename or link:
        raise InputError(f"{archive} holds '{entry.filename}', which points outside the archive; pack it again.")
    if entry.flag_bits & 1:
        raise InputError(f"{archive} is encrypted; pack it without a password.")
    _check_name(path.name)
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # The size in the archive's index may lie: what counts is what comes out.
    with bundle.open(entry) as source, target.open("wb") as sink:
        written = 0
        while chunk := source.read(2**20):
            written += len(chunk)
            if written > left:
                raise InputError(
                    f"{archive} unpacks to more than {MAX_BYTES / 2**20:.0f} MB; reduce its textures or triangles."
                )
            sink.write(chunk)
    return written


def _is_debris(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePosixPath(name).name in (".DS_Store", "Thumbs.db", "desktop.ini")


def _check_name(name: str) -> None:
    suffix = Path(name).suffix.lower()
    if suffix not in (*OBJECTS, *COMPANIONS, ".txt", ".md") or len(name) > 200:
        raise InputError(f"'{name[:80]}' is not a 3D file; {_EXPECTED}.")


def _only_object(folder: Path) -> Path:
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in OBJECTS)
    if len(found) == 1:
        return found[0]
    if not found:
        names = ", ".join(sorted(file.name for file in folder.rglob("*") if file.is_file())[:4])
        raise InputError(f"The upload holds no object file (found: {names or 'nothing'}); {_EXPECTED}.")
    names = ", ".join(file.name for file in found[:4])
    raise InputError(f"The upload holds {len(found)} object files ({names}); upload one object at a time.")
