"""Item vectors become semantic codes: short lists of integers from coarse to fine."""

from process.semantic_codes.residual import Level, Quantised, quantise, without_collisions

__all__ = ["Level", "Quantised", "quantise", "without_collisions"]
