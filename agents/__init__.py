"""Ready-made chat on the typed tools: with a model of any provider, or offline with one that needs no key.

python -m agents "find red apples in photos and compare the measures"
"""
