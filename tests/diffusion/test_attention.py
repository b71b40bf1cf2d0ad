"""The three attentions against slow twins that follow the formulas one frame, pixel and head at a time."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention

import t4d.diffusion.attention as implementation
from t4d.diffusion.attention import MultiViewAttention, SpatioTemporalAttention, TextImageAttention, pool_tokens
from t4d.diffusion.layout import Layout
from t4d.diffusion.positions import spatial_code

B, V, T, H, W, C, HEADS = 2, 3, 4, 2, 5, 8, 2
LAYOUT = Layout(B, V, T)


def softmax_attention(query, key, value):
    """[Lq, C] over [Lk, C], head by head."""
    out = []
    for head in range(HEADS):
        part = slice(head * C // HEADS, (head + 1) * C // HEADS)
        scores = query[:, part] @ key[:, part].T / math.sqrt(C // HEADS)
        out.append(scores.softmax(-1) @ value[:, part])
    return torch.cat(out, dim=-1)


def attention(cross=None) -> Any:
    return Attention(query_dim=C, heads=HEADS, dim_head=C // HEADS, cross_attention_dim=cross).double()


def randomise(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.double()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.mark.parametrize("written_out", [0, 35])
def test_written_out_attention_is_the_fused_one_forward_and_backward(monkeypatch, written_out):
    """What training on a CPU uses against torch's, and the limit above which it is torch's again."""
    monkeypatch.setattr(implementation, "WRITTEN_OUT", written_out)
    shapes = (3, HEADS, 5, 4), (3, HEADS, 7, 4), (3, HEADS, 7, 4)
    with torch.enable_grad():
        q, k, v = inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
        found, wanted = implementation.attention(q, k, v), F.scaled_dot_product_attention(q, k, v)
        pull = torch.randn_like(found)
        gradients = [torch.autograd.grad(out, inputs, pull) for out in (found, wanted)]
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*gradients)
    assert ("ScaledDotProduct" in type(found.grad_fn).__name__) == (written_out == 0), found.grad_fn


@pytest.mark.parametrize("pool", [1, 2])
def test_multi_view_attention_and_adapter(pool):
    attn, processor = randomise(attention()), randomise(MultiViewAttention(C, pool))
    x = torch.randn(B, V, T, H * W, C, dtype=torch.float64)
    out = processor(attn, x.flatten(0, 2), layout=LAYOUT, height=H, width=W).view_as(x)
    for b in range(B):

        def sources(t, b=b):
            cells = pool_tokens(x[b, :, t], H, W, pool)
            return cells.reshape(-1, C)

        for t in range(T):
            tokens = x[b, :, t].reshape(-1, C)
            plain = softmax_attention(attn.to_q(tokens), attn.to_k(sources(t)), attn.to_v(sources(t)))
            query = processor.to_q_i2v(tokens)
            first = softmax_attention(query, attn.to_k(sources(0)), attn.to_v(sources(0)))
            wanted = attn.to_out[0](plain + processor.to_out_i2v(first))
            torch.testing.assert_close(out[b, :, t].reshape(-1, C), wanted)


@pytest.mark.parametrize("per_view", [False, True])
def test_text_and_image_cross_attention(per_view):
    attn, processor = randomise(attention(cross=6)), randomise(TextImageAttention(C, 6, image=True))
    x = torch.randn(B, V, T, H * W, C, dtype=torch.float64)
    text = torch.randn(*((B, V) if per_view else (B,)), 7, 6, dtype=torch.float64)
    image = torch.randn(B, V, 3, 6, dtype=torch.float64)
    rows = text.flatten(0, 1) if per_view else text
    out = processor(attn, x.flatten(0, 2), (rows, image.flatten(0, 1))).view_as(x)
    for b in range(B):
        for v in range(V):
            words = text[b, v] if per_view else text[b]
            for t in range(T):
                query = attn.to_q(x[b, v, t])
                wanted = softmax_attention(query, attn.to_k(words), attn.to_v(words))
                picture = image[b, v]
                wanted = wanted + softmax_attention(query, processor.to_k_ip[0](picture), processor.to_v_ip[0](picture))
                torch.testing.assert_close(out[b, v, t], attn.to_out[0](wanted))


def test_spatiotemporal_attention():
    attn, processor = randomise(attention()), SpatioTemporalAttention(C, 6).double()
    processor = randomise(processor)
    x = torch.randn(B, V, T, H * W, C, dtype=torch.float64)
    out = processor(attn, x.view(B * V, -1, C), layout=LAYOUT, height=H, width=W).view_as(x)
    share = torch.sigmoid(processor.alpha_blender.mix_factor)
    place = torch.tensor([[code(r, c) for c in range(W)] for r in range(H)], dtype=torch.float64).reshape(-1, C)
    clock = torch.tensor(
        [[(math.sin, math.cos)[i % 2](t * 10000 ** (-2 * (i // 2) / C)) for i in range(C)] for t in range(T)],
        dtype=torch.float64,
    )
    wanted = torch.zeros_like(x)
    for b in range(B):
        for t in range(T):
            tokens = (x[b, :, t] + place).reshape(-1, C)
            spatial = softmax_attention(processor.to_q_sp(tokens), processor.to_k_sp(tokens), processor.to_v_sp(tokens))
            wanted[b, :, t] += share * processor.to_out_sp(spatial).view(V, H * W, C)
        for v in range(V):
            for pixel in range(H * W):
                tokens = x[b, v, :, pixel] + clock
                temporal = softmax_attention(attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens))
                wanted[b, v, :, pixel] += (1 - share) * attn.to_out[0](temporal)
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)  # the stored time code is float32


def code(row, column):
    """2D sine code of one pixel, first half y, second x."""
    half = C // 2
    out = []
    for place, count in ((row, H), (column, W)):
        angle = (place + 1) / (count + 1e-6) * 2 * math.pi
        out += [(math.sin, math.cos)[j % 2](angle / 10000 ** (2 * (j // 2) / half)) for j in range(half)]
    return out


def test_position_code_survives_inference_mode_into_training():
    with torch.inference_mode():
        first = spatial_code(3, 4, 8, torch.device("cpu"), torch.float32)
    with torch.enable_grad():
        x = torch.ones(12, 8, requires_grad=True)
        (x * spatial_code(3, 4, 8, torch.device("cpu"), torch.float32)).sum().backward()
    torch.testing.assert_close(x.grad, first)


def test_views_gather_and_scatter_back():
    x = torch.randn(LAYOUT.rows, 5, C)
    gathered = LAYOUT.gather_views(x)
    assert gathered.shape == (B * T, V * 5, C)
    torch.testing.assert_close(gathered[1 * T + 2, 5:10], x[(1 * V + 1) * T + 2])  # b 1, t 2, view 1
    assert torch.equal(LAYOUT.scatter_views(gathered), x)
