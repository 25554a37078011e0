"""A recommender behind HTTP, with a page to look at: ``legos serve RUN``."""
