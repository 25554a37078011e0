"""Baselines as models: fitted without gradients, saved, measured, used for recommendations."""
