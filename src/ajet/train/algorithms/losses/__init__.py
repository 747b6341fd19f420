"""Token losses, a file each, for `algorithm.loss=<file>`: `SampledTokens` in, a loss for each token out."""
