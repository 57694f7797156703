"""What distributions whose `log_prob` is a kernel have in common."""

from __future__ import annotations

import abc
from typing import Any

from torch import Tensor


class SummedLogProb:
    """`log_prob` of a torch.distributions class by its `summed_log_prob`; data are not checked unless that is asked."""

    _validate_args: bool = False
    _validate_sample: Any

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density, or log-probability, in nats, element by element."""
        if self._validate_args:
            self._validate_sample(value)
        return self.summed_log_prob(value, 0)

    @abc.abstractmethod
    def summed_log_prob(self, value: Tensor, event_ndim: int) -> Tensor:
        """`log_prob` summed over the last dimensions, in one pass."""
