"""Benchmarks: every module here has run() -> [{"name", "value", "unit", "naive"}]; `make bench` runs them all."""
