"""One thread: a second one makes these tiny steps wait, many times longer on a busy machine."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
