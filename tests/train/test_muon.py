"""Muon in float32 against torch's, and against the singular value decomposition."""

import pytest
import torch
from torch import nn

from train.muon import Muon, orthogonalised, ratio


@pytest.mark.parametrize("rule", [None, "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_torchs(rule, nesterov):
    starts = [
        torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate([(6, 17), (24, 5)])
    ]
    networks = [[nn.Parameter(x.clone()) for x in starts] for _ in range(2)]
    settings = {"lr": 0.05, "weight_decay": 0.1, "nesterov": nesterov, "adjust_lr_fn": rule}
    optimisers = [cls(parameters, **settings) for cls, parameters in zip((torch.optim.Muon, Muon), networks)]
    for step in range(3):
        for parameters, optimiser in zip(networks, optimisers):
            for i, p in enumerate(parameters):
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * step + i))
            optimiser.step()
    for theirs, ours, start in zip(*networks, starts):
        moved = float((theirs - start).detach().square().mean().sqrt())
        assert moved > 0.01
        assert float((ours - theirs).detach().abs().max()) < 0.1 * moved  # bfloat16 has eight bits
    buffers = [[o.state[p]["momentum_buffer"] for p in ps] for o, ps in zip(optimisers, networks)]
    assert all(torch.equal(a, b) for a, b in zip(*buffers))


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_direction_keeps_singular_vectors_and_evens_values(shape):
    u, s, v = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(2)), full_matrices=False)
    found = orthogonalised(u @ torch.diag(s) @ v, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    values = u.T @ found @ v.T
    torch.testing.assert_close(values, torch.diag(values.diagonal()), atol=1e-4, rtol=0)
    assert 0.6 < float(values.diagonal().min()) and float(values.diagonal().max()) < 1.3


def test_ratio_and_closure():
    assert ratio(torch.Size([8, 2]), None) == 2 and ratio(torch.Size([2, 8]), None) == 1
    assert ratio(torch.Size([25, 4]), "match_rms_adamw") == pytest.approx(1.0)
    p = nn.Parameter(torch.ones(2, 3))

    def loss():
        value = p.square().sum()
        value.backward()
        return value

    assert float(Muon([p], lr=0.1).step(loss)) == 6 and float(p.detach().sum()) < 6
