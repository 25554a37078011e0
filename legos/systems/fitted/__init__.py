"""Baselines as models of their own: fitted without gradients, saved, measured, recommending."""
