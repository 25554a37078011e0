"""Bricks: an item encoder, a user encoder and a predictor, trained on clicks."""
