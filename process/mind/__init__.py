"""MIND (Wu et al., ACL 2020): news.tsv and behaviors.tsv become the common raw form."""

from process.mind.reader import read_mind, read_mind_impressions

__all__ = ["read_mind", "read_mind_impressions"]
