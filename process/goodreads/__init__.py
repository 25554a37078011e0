"""Goodreads: the benchmark and the release of ONCE (Liu et al., WSDM 2024, arXiv 2305.06566), and
the dump of the UCSD Book Graph (Wan and McAuley, RecSys 2018) that both came from."""
