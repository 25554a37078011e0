"""CLLM4Rec: a language model whose vocabulary has a token for every user and every item.

Zhu, Wu, Guo, Hong and Li, "Collaborative Large Language Model for Recommender Systems", WWW 2024,
arXiv 2311.01343. Where the paper and its public code differ there is a switch, and the presets
``paper`` and ``public_code`` set them all (:mod:`legos.systems.cllm4rec.settings`).
"""
