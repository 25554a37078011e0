"""The data-honesty report: what a data set gives away, or spoils, before any model reads it.

A rule that reads no content should not rank a test split; ties in time, repeated texts, markup,
unknown tokens, impossible dates and tiny splits should be known before a number is believed.
"""

from process.honesty.bounds import print_honesty
from process.honesty.evidence import Evidence
from process.honesty.measure import measure_honesty

__all__ = ["Evidence", "measure_honesty", "print_honesty"]
