"""How the reference pages are made from the code: `python -m recipes.reference` writes `docs/reference/`.

A test compares the pages with what this would write, so they are never behind the code.
"""
