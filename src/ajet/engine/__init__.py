"""Sampling engines: token ids in; token ids, log-probabilities and the policy version out.

`scripted` is a bigram model for tests of the plumbing, `transformers` the plain reference, `vllm` the fast
one. They share the contract in `base`; `stepped` is what the two batching engines have in common.
"""
