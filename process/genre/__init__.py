"""GENRE: a language model writes what items and users lack (Liu et al., ONCE, WSDM 2024)."""
