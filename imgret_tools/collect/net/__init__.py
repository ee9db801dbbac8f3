"""The network as seen by the collector: guarded, polite."""
