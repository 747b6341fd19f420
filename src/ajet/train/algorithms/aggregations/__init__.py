"""Aggregations, a file each, for `algorithm.aggregation=<file>`: a sequence's length and the batch's in, the weight of
each of the sequence's tokens out."""
