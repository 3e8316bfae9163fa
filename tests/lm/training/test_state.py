import copy

import pytest
import torch
from torch import nn

from audiogen_cli.lm.training.state import State, clip_gradients


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("limit", [0.0, 0.1, 100.0])
def test_clipped_steps_are_those_of_torch(fused: bool, limit: float) -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 7)
    theirs = copy.deepcopy(model)
    optimizer, reference = (torch.optim.AdamW(each.parameters(), 0.1, eps=0.1, fused=fused) for each in (model, theirs))
    state = State(model, model, optimizer, None)  # type: ignore[arg-type]
    for x in torch.randn(3, 4, 5):
        for network in (model, theirs):
            network.zero_grad()
            network(x).square().sum().backward()
        norm = clip_gradients(state, limit)
        optimizer.step()
        torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs.parameters(), limit or torch.inf))
        reference.step()
    torch.testing.assert_close(list(model.parameters()), list(theirs.parameters()))
