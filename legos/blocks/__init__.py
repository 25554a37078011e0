"""Layers shared by item encoders, user encoders and predictors."""
