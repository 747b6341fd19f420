"""Tasks -> episodes: one episode at a time in `runner`, groups of them in `scheduler`.

`agents`, `endpoint`, `opponents` and `judges` are what an episode needs besides; `python -m ajet.rollout` starts in
`__main__.py`.
"""
