"""From what a user names, a study file or a folder, to the prepared folder that is served."""

from pathlib import Path

from studio.study.folder import MEDIA_NAME, read_study
from studio.study.media import prepare
from t4d.errors import InputError


def prepared_folder(path: Path) -> Path:
    """The prepared folder of a study; a study file that is not prepared yet is prepared.

    Args:
        path: a prepared folder, its study.yaml, or the author's study file.

    Raises:
        InputError: neither, or the study cannot be prepared.
    """
    if path.is_dir():
        if not (path / "study.yaml").is_file():
            raise InputError(f"{path} is not a prepared study; make one with: python -m studio.study check STUDY.yaml")
        return path
    study = read_study(path)
    if MEDIA_NAME.fullmatch(study.items[0].reference):
        return path.parent
    return prepare(path).folder
