"""Chores of the repository: what an environment contains, as a lock and as a table of licences."""
