"""What the run ran on: code version, packages, hardware, threads, and the cost of the process tree."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

# what changes numbers or files; read from package metadata, so nothing is imported for it
PACKAGES = (
    *("torch", "numpy", "numba", "diffusers", "transformers", "accelerate", "safetensors", "gsplat"),
    *("trimesh", "pygltflib", "DracoPy", "embreex", "opencv-python-headless", "pillow", "av", "viser", "gradio"),
)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_version(repository: Path) -> dict[str, Any]:
    """Git commit of the code.

    Args:
        repository: The folder that should be the top of a git checkout.

    Returns:
        {"commit": hex or "unknown", "dirty": bool or None}; unknown outside git, and also where `repository` merely
        lies inside somebody else's checkout (an installed copy).
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != Path(repository).resolve():
            return {"commit": "unknown", "dirty": None}
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": "unknown", "dirty": None}


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages in `PACKAGES`."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Processor name, usable cores, memory and accelerator names of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": cores,
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": [],
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        facts["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return facts


def thread_counts() -> dict[str, int | str]:
    """Threads of torch and numba where they are loaded, and the OpenMP setting; CPU-seconds depend on them."""
    counts: dict[str, int | str] = {"omp": os.environ.get("OMP_NUM_THREADS", "unset")}
    if (torch := sys.modules.get("torch")) is not None:
        counts["torch"] = torch.get_num_threads()
    if (numba := sys.modules.get("numba")) is not None:
        # Not numba.get_num_threads(): it starts numba's OpenMP layer, which raises torch's thread count as well.
        counts["numba"] = numba.config.NUMBA_NUM_THREADS
    return counts


def tree_cost() -> tuple[float, int]:
    """Cost of this process and its descendants.

    Returns:
        (CPU-seconds, resident bytes): user plus system time of this process, of its children that have ended and
        been waited for, and of all that still run; and the sum of resident memory now (pages that processes share
        are counted in each).
    """
    root = psutil.Process()
    seconds, resident = 0.0, 0
    for process in [root, *root.children(recursive=True)]:
        try:
            with process.oneshot():
                times, memory = process.cpu_times(), process.memory_info().rss
        except psutil.Error:  # ended between listing and reading: its parent's waited-for time has it
            continue
        seconds += times.user + times.system + times.children_user + times.children_system
        resident += memory
    return seconds, resident


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
