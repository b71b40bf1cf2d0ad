"""Mini's sentence and picture encoders."""

import pytest
import torch

from t4d.diffusion.image.mini import MiniImageEncoder
from t4d.diffusion.text.mini import MiniTextEncoder
from t4d.diffusion.weights import load_module, save_module
from t4d.errors import InputError


@pytest.fixture(scope="module")
def text() -> MiniTextEncoder:
    torch.manual_seed(0)
    return MiniTextEncoder(width=32, pooled=24).eval()


@torch.no_grad()
def test_rows_do_not_depend_on_their_neighbours(text):
    tokens, pooled = text.encode(["", "a fox is running", "the very old elephant looks around slowly"])
    assert tokens.shape == (3, 16, 32) and pooled.shape == (3, 24)
    alone, _ = text.encode(["a fox is running"])
    torch.testing.assert_close(alone[0], tokens[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(pooled[0], pooled[1])


@torch.no_grad()
def test_order_case_and_length(text):
    _, a = text.encode(["a dog chases a cat"])
    _, b = text.encode(["a cat chases a dog"])
    _, c = text.encode(["A DOG chases a cat"])
    assert not torch.allclose(a, b, atol=1e-4)
    torch.testing.assert_close(a, c)
    assert text.encode(["word " * 100])[0].shape == (1, 16, 32)


def test_any_word_can_be_spelled(text):
    ids = text.tokenizer.encode("a glorbifying zxqv runs", add_special_tokens=False).ids
    assert len(ids) > 4 and 1 not in ids


def test_the_table_knows_that_verbs_are_related(text):
    def vector(word: str) -> torch.Tensor:
        ids = text.tokenizer.encode(word, add_special_tokens=False).ids
        return torch.nn.functional.normalize(text.table[ids].mean(0), dim=0)

    def near(a: str, b: str) -> float:
        return float(vector(a) @ vector(b))

    assert near("leaps", "jumping") > near("leaps", "eating") + 0.2
    assert near("fox", "wolf") > near("fox", "running") + 0.2
    assert near("swims", "swimming") > near("swims", "dances")


@torch.no_grad()
def test_saved_folders_carry_table_and_tokenizer(text, tmp_path):
    save_module(text, tmp_path, torch.float32)
    again = load_module(MiniTextEncoder, tmp_path)
    assert again.table_folder == tmp_path
    torch.testing.assert_close(again.encode(["a whale"])[1], text.encode(["a whale"])[1])
    (tmp_path / "table.safetensors").unlink()
    missing = MiniTextEncoder(width=32, pooled=24)
    missing.load_files(tmp_path)
    with pytest.raises(InputError, match=r"table\.safetensors is missing"):
        missing.encode(["a whale"])


@torch.no_grad()
def test_picture_vectors():
    torch.manual_seed(0)
    encoder = MiniImageEncoder(width=12, channels=4).eval()
    pictures = torch.rand(2, 3, 4, 128, 128)
    found = encoder.encode(pictures)
    assert found.shape == (2, 3, 12)
    torch.testing.assert_close(encoder.encode(pictures[1:, 2:])[0, 0], found[1, 2], atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="multiples of 32"):
        encoder.encode(torch.rand(1, 1, 4, 100, 100))
