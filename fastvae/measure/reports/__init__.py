"""Benchmark reports: read, rendered, plotted, compared. Needs neither a GPU nor what wrote them."""
