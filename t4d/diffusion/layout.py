"""How one batch of multi-view clips is folded into the rows of an image network."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Counts of objects, views and frames; rows of the network are "(b v t)", t fastest.

    Attributes:
        B: Objects in the batch.
        V: Views of each object.
        T: Frames of each view.
    """

    B: int
    V: int
    T: int

    @property
    def rows(self) -> int:
        """Images in the batch."""
        return self.B * self.V * self.T

    def gather_views(self, x: Tensor) -> Tensor:
        """Put the tokens of all views of a frame in one sequence: "(b v t) l c -> (b t) (v l) c"."""
        length, channels = x.shape[-2:]
        x = x.reshape(self.B, self.V, self.T, length, channels).transpose(1, 2)
        return x.reshape(self.B * self.T, self.V * length, channels)

    def scatter_views(self, x: Tensor) -> Tensor:
        """Inverse of :meth:`gather_views`: "(b t) (v l) c -> (b v t) l c"."""
        channels = x.shape[-1]
        x = x.reshape(self.B, self.T, self.V, -1, channels).transpose(1, 2)
        return x.reshape(self.rows, -1, channels)


@dataclass
class LayoutSlot:
    """The one place where a network keeps its current layout; set at the top of forward, read by its transformers."""

    current: Layout | None = field(default=None)

    def get(self) -> Layout:
        """The layout of the running forward pass."""
        if self.current is None:
            raise RuntimeError("a transformer of the network was called outside the network's forward")
        return self.current
