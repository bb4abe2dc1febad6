"""A running average of the weights: steadier than the last step's, and what is judged and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from steadyocr.training.model import DBNet

# From here on the warm-up no longer shows, whatever the decay.
_WARM_UPDATES = 1_000_000


class WeightAverage:
    """Exponential moving average of a model, BatchNorm statistics included.

    Args:
        model: The model that is trained.
        decay: What is kept of the average at each step, once warmed up.
    """

    def __init__(self, model: DBNet, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        self.updates += 1
        # Early on the average must forget the random start quickly.
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        averaged, present = _floats(self.model), _floats(model)
        torch._foreach_lerp_(averaged, present, 1.0 - decay)

    def start_warm(self) -> None:
        """Skip the warm-up: the model starts from weights worth keeping, not from chance."""
        self.updates = _WARM_UPDATES

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights under the model's own names."""
        return self.model.state_dict()


def _floats(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in model.state_dict().values() if tensor.is_floating_point()]
