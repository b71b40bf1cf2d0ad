"""CLIP's text tower behind the text interface (the paper's sentences)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from t4d.errors import InputError


class CLIPSentenceEncoder(ModelMixin, ConfigMixin):
    """Last hidden states of CLIP-L's text tower, padded to the model's length, as SD1.5 uses them.

    Args:
        text_config: Fields of ``transformers.CLIPTextConfig``; None: CLIP-L (768 wide, 12 layers, 77 tokens).
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, text_config: dict[str, Any] | None = None):
        super().__init__()
        stock: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072}
        stock |= {"num_hidden_layers": 12, "num_attention_heads": 12}
        self.tower = CLIPTextModel(CLIPTextConfig(**(stock if text_config is None else dict(text_config))))
        self.tokenizer: Any = None

    def load_files(self, folder: str | Path) -> None:
        """Read the tokenizer from a folder: ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``."""
        folder = Path(folder)
        if (folder / "tokenizer.json").is_file():
            self.tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        else:
            self.read_tokenizer(folder / "vocab.json", folder / "merges.txt")

    def read_tokenizer(self, vocabulary: Path, merges: Path) -> None:
        """Build the tokenizer from CLIP's two files."""
        for file in (vocabulary, merges):
            if not file.is_file():
                raise InputError(f"The CLIP tokenizer needs {file}, which is missing; copy it there.")
        self.tokenizer = CLIPTokenizer(vocab=str(vocabulary), merges=str(merges))

    def save_files(self, folder: str | Path) -> None:
        """Write the tokenizer beside the weights."""
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, L, D] of B sentences; no pooled vector.

        Sentences are cut at the tower's length (77 tokens for CLIP-L) and padded to it.
        """
        if self.tokenizer is None:
            raise InputError("The CLIP text encoder has no vocabulary; load it from a folder that holds vocab.json.")
        ids = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.tower.config.max_position_embeddings,
            return_tensors="pt",
        ).input_ids
        with torch.no_grad():
            return self.tower(ids.to(self.device)).last_hidden_state, None
