"""A trained run as a recommender: ``legos.open("runs/shop/naml/0123456789ab")``."""
