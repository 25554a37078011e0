"""Pretrained language models: where they are, their token vectors, vectors of texts."""
