"""fastvae's operators against the snippets that they replace: `python -m benchmarks`."""
