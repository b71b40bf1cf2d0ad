"""Packages that travel as wheels: put where Python looks first, before anything of this repository is imported."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def use_wheels(folder: Path) -> Path:
    """Installs all wheels of a folder into a folder of their own, for this process and those it starts.

    Returns:
        That folder.
    """
    wheels = sorted(str(path) for path in folder.glob("*.whl"))
    if not wheels:
        sys.exit(f"error: {folder} holds no wheels; make them with: python -m train.slot_wheels --out {folder}")
    site = Path(tempfile.mkdtemp(prefix="slot_site_"))
    atexit.register(shutil.rmtree, site, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    done = subprocess.run([*command, "--target", str(site), *wheels], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: the wheels of {folder} cannot be installed: {done.stderr[-400:]}")
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    return site
