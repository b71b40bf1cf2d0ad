"""Where the repository's own files and the optional shared development data live."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
ASSETS = REPO / "assets"


def shared_dir() -> Path | None:
    """Folder with development data and fixtures that are never committed.

    Returns:
        ``$T4D_SHARED`` if set, else ``../shared`` beside the repository, or None where neither exists.
    """
    path = Path(os.environ.get("T4D_SHARED", REPO.parent / "shared"))
    return path if path.is_dir() else None
