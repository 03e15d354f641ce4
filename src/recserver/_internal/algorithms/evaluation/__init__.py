"""Offline evaluation of rankings: hold-outs and ranking metrics."""
