"""Command line: item vectors become semantic codes, short lists of integers, coarse to fine."""
