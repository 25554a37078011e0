"""Own data: a file of items and a file of events, in whatever form they are, become tables."""
