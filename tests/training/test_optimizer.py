"""RAdam in one pass against torch's own."""

from __future__ import annotations

import copy

import torch

from napari_survpgc.training.fitting.optimizer import radam


def test_the_fused_steps_are_those_of_torch_and_survive_a_checkpoint() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(1000))
    theirs = torch.nn.Parameter(ours.detach().clone())
    own = radam(ours, 5e-4, 1e-1)
    reference = torch.optim.RAdam([theirs], lr=5e-4, weight_decay=1e-1, decoupled_weight_decay=True)
    assert not isinstance(own, torch.optim.RAdam)
    for step in range(60):  # the rectification begins with the sixth
        rate = 1e-2 * step / 60
        gradient = torch.randn(1000) * (10.0 ** torch.randint(-6, 3, (1000,)))
        for parameter, optimizer in ((ours, own), (theirs, reference)):
            optimizer.param_groups[0]["lr"] = rate
            parameter.grad = gradient.clone()
            optimizer.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        if step in (2, 30):  # a stopped run goes on from its checkpoint
            saved = copy.deepcopy(own.state_dict())
            own = radam(ours, 5e-4, 1e-1)
            own.load_state_dict(saved)
    assert not torch.equal(ours, torch.zeros(1000))
    assert own.param_groups[0]["weight_decay"] == 1e-1
    assert own.param_groups[0]["eps"] == 1e-8
