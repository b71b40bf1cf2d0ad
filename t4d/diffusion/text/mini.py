"""Mini's text encoder: a static token table distilled from a sentence model, under a small transformer.

The table (``train/text_table.py``) is fixed: it knows that "gallops" is near "runs" although no caption said so. The
transformer is trained with the denoiser.
"""

import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from t4d.errors import InputError
from t4d.paths import ASSETS

TABLE = ASSETS / "weights" / "mini" / "text_encoder"
FILES = ("table.safetensors", "tokenizer.json")


class MiniTextEncoder(ModelMixin, ConfigMixin):
    """Sentences to tokens and a pooled vector (satisfies ``TextEncoder``).

    Args:
        width: Channels of the transformer and of the tokens D.
        pooled: Length P of the pooled vector.
        layers: Transformer layers.
        heads: Attention heads.
        length: Tokens per sentence L; longer sentences are cut.
        table_dimension: Channels of the token table.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        width: int = 128,
        pooled: int = 128,
        layers: int = 1,
        heads: int = 4,
        length: int = 16,
        table_dimension: int = 128,
    ):
        super().__init__()
        self.length = length
        self.table_folder = TABLE
        self.project = nn.Linear(table_dimension, width)
        self.place = nn.Parameter(torch.randn(length, width) * 0.02)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Sequential(nn.Linear(width, pooled), nn.SiLU(), nn.Linear(pooled, pooled))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """WordPiece over the table's vocabulary."""
        return Tokenizer.from_file(str(self._file("tokenizer.json")))

    @cached_property
    def table(self) -> Tensor:
        """Static vectors [tokens, table_dimension] of about unit size; row 0 (padding) is zero."""
        stored = load_file(self._file("table.safetensors"))
        return stored["codes"].float() * stored["scale"].float()

    def _file(self, name: str) -> Path:
        path = self.table_folder / name
        if not path.is_file():
            raise InputError(f"The text table {path} is missing; make it with: python -m train.text_table")
        return path

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, L, D] (position 0 stands for the sentence) and pooled [B, P]; see ``TextEncoder``."""
        rows = torch.zeros(len(texts), self.length - 1, dtype=torch.long)
        for row, text in zip(rows, texts):
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids[: self.length - 1]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        device = self.start.device
        x = self.project(self.table[rows].to(device=device, dtype=self.start.dtype))
        x = torch.cat([self.start.expand(len(texts), 1, -1), x], 1) + self.place
        padded = torch.cat([torch.zeros(len(texts), 1, dtype=torch.bool), rows == 0], 1).to(device)
        x = self.norm(self.transformer(x, src_key_padding_mask=padded))
        # the denoiser sees every position; those of padding carry nothing
        x = x * (~padded)[..., None]
        return x, self.pool(x[:, 0])

    def save_files(self, folder: str | Path) -> None:
        """Copy the table and the tokenizer beside the weights."""
        for name in FILES:
            if self._file(name).resolve() != (Path(folder) / name).resolve():
                shutil.copyfile(self._file(name), Path(folder) / name)

    def load_files(self, folder: str | Path) -> None:
        """Use the table and the tokenizer of a saved folder."""
        self.table_folder = Path(folder)
        self.__dict__.pop("table", None)
        self.__dict__.pop("tokenizer", None)
