"""Metrics of scores: grouped ranking, beyond accuracy, subsets, significance."""

from legos.metrics.ranking import GroupedMetrics, Metric, grouped_metrics, parse_metric

__all__ = ["GroupedMetrics", "Metric", "grouped_metrics", "parse_metric"]
