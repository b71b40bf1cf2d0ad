"""Bytes of tensors that are alive, counted where they are made: works for fake tensors, which hold no memory."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts every storage from the operation that makes it until it is freed.

    torch's own ``MemTracker`` does the same but cannot follow networks with frozen parameters. What an operation uses
    inside itself (workspaces of kernels) and what an allocator wastes is not counted.

    Attributes:
        now: Bytes alive.
        peak: Most bytes alive at one time since :meth:`restart`.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()

    def add(self, tensors: Any) -> int:
        """Count tensors that were made outside the mode; returns their bytes (each storage once)."""
        before = self.now
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        return self.now - before

    def restart(self) -> None:
        """Forget the old peak."""
        self.peak = self.now

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size).atexit = False

    def _free(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.add(out)
        return out
