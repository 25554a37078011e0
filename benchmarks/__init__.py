"""Each benchmark runs both sides, prints a comparison, and ends with one line of JSON."""
