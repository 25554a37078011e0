"""TIGER: a model that generates the next item as a tuple of semantic codes.

Rajput et al., "Recommender Systems with Generative Retrieval", NeurIPS 2023 (arXiv:2305.05065).
"""
