"""YAMLs and command lines → one checked :class:`~legos.config.schema.RunConfig`."""
