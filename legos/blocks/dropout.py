"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHOICES = 2**16  # of a random number of 16 bits; rates are multiples of its inverse
_AT_ONCE = 4  # such numbers in one of 64 bits


class Dropout(nn.Dropout):
    """``nn.Dropout``, Srivastava et al., JMLR 2014, four times as fast on a CPU.

    torch draws one number from its generator for every entry there; here one draw of 64 bits
    decides four entries, so that the rate is exact to 1/65,536. Other devices do as torch does.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Of any shape; entries are zero at the rate, and the others grow to keep the mean."""
        return dropout(values, self.p) if self.training else values


def dropout(values: Tensor, rate: float) -> Tensor:
    """Entries are zero at ``rate``, and the others grow to keep the mean."""
    if values.device.type != "cpu" or rate == 1:
        return F.dropout(values, rate)
    dropped = round(rate * _CHOICES)  # of all choices
    if not dropped:
        return values
    draws = torch.empty(-(-values.numel() // _AT_ONCE), dtype=torch.int64)
    choices = draws.random_(-(2**63), None).view(torch.int16)[: values.numel()]
    kept = torch.empty_like(values, requires_grad=False, memory_format=torch.contiguous_format)
    # straight into floating point: a pass over booleans costs as much as all the others
    torch.ge(choices.view(values.shape), dropped - _CHOICES // 2, out=kept)
    return values * kept.mul_(_CHOICES / (_CHOICES - dropped))
