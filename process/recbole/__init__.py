"""Sequences as RecBole's atomic files, and RecBole's results as rows of a table."""
