"""A plugin that does not import."""

raise ImportError("libmissing is not installed")
