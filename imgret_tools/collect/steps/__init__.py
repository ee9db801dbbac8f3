"""Crawl, download, clean, split."""
