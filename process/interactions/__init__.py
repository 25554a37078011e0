"""Who did what and when, whatever the origin: filters, splits, negatives, impressions."""
