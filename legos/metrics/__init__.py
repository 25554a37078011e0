"""Metrics of scores: grouped ranking, beyond accuracy, subsets, significance."""

from legos.metrics.names import Metric, parse_metric
from legos.metrics.ranking import GroupedMetrics, grouped_metrics

__all__ = ["GroupedMetrics", "Metric", "grouped_metrics", "parse_metric"]
