"""Benchmarks: everything compared in one run, alternating, medians and ratios. ``make bench``."""
