"""Ready-made chat on the typed tools: with a model of any provider, or offline with one that needs no key.

python -m imgret_tools.chat "find red apples in photos and compare the measures"
"""
