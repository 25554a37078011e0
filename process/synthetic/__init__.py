"""An invented newsroom with planted tastes, written as raw MIND files and read like real ones."""
