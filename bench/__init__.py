"""Benchmarks. Alternatives are measured in turn in one run, and reported as medians and ratios. ``make bench``."""
