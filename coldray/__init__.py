"""coldray: cold-start recommendation on a Ray cluster, from raw catalogue to served recommendation."""

__version__ = "0.1.0"
