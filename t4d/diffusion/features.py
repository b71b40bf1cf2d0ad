"""Reading inner tensors of the network by module name."""

from collections.abc import Sequence

from torch import Tensor, nn

from t4d.errors import InputError


def resolve_layer(network: nn.Module, layer: str) -> str:
    """Module path whose ``-1`` parts stand for the last child of a list.

    Args:
        network: the denoiser.
        layer: such as ``up_blocks.1.motion_modules.-1``.

    Raises:
        InputError: the network has no such module.
    """
    found: nn.Module = network
    path: list[str] = []
    for part in layer.split("."):
        children = dict(found.named_children())
        name = list(children)[-1] if part == "-1" and children else part
        if name not in children:
            where = ".".join(path) or "the network"
            raise InputError(
                f"Feature layer {layer!r} does not exist: {where} has {list(children) or 'no parts'}, not {part!r}; "
                "choose one of these."
            )
        path.append(name)
        found = children[name]
    return ".".join(path)


class FeatureTap:
    """Context manager that keeps the latest output of named modules.

    Inside it, :attr:`raw` maps a name to that module's latest output (the first element where it returns several), with
    autograd attached if the pass has it.

    Args:
        network: Network with a ``_slot`` layout (``MultiViewMotionUNet``).
        names: Module paths, such as ``up_blocks.1.motion_modules.2``.

    Raises:
        InputError: If the network has no module of that name.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]):
        self.network = network
        self.raw: dict[str, Tensor] = {}
        modules = dict(network.named_modules())
        for name in names:
            if name not in modules or not name:
                near = [known for known in modules if known.startswith(name.split(".")[0])][:4]
                raise InputError(f"The network has no module {name!r}; names like {near} are expected.")
        self._modules = {name: modules[name] for name in names}
        self._handles: list = []

    def __enter__(self) -> "FeatureTap":
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._keeper(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keeper(self, name: str):
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            value = output[0] if isinstance(output, tuple | list) else output
            assert isinstance(value, Tensor)
            self.raw[name] = value

        return keep

    def maps(self) -> dict[str, Tensor]:
        """Latest feature maps by name, [B, V, T, C, h, w]; only for modules whose rows are images."""
        layout = self.network._slot.get()  # type: ignore[union-attr, operator]
        shape = (layout.B, layout.V, layout.T)
        return {name: value.reshape(*shape, *value.shape[1:]) for name, value in self.raw.items()}
