"""How the rasteriser's numba functions are compiled and cached."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

FLAGS = {"contract", "nsz"}  # fused multiply-add; nothing that reorders sums


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function that kernels call; LLVM inlines it there."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=FLAGS)(function)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles an entry called from Python, without the GIL, and caches it on disk.

    numba renews a cached function when its own file changes, not when a file it takes helpers or constants from does.
    Here the stamp covers all of the rasteriser's sources. Where no folder can be written, nothing is cached.
    """
    compiled = numba.njit(nogil=True, error_model="numpy", fastmath=FLAGS)(function)
    try:
        compiled.enable_caching()
        index = compiled._cache._cache_file
        index._source_stamp = (index._source_stamp, sources_digest())
    except (RuntimeError, AttributeError):  # no writable folder; another numba
        return numba.njit(nogil=True, error_model="numpy", fastmath=FLAGS)(function)
    return compiled


def sources_digest() -> str:
    """sha256 over the kernels' source files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("_*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
