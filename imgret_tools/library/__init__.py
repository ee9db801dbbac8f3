"""What is indexed: one folder on disk, read through one View."""
