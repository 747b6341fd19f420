"""The learning rule as pure functions: advantages, aggregations and token losses, a file each, and what they share.

`credit.base`, `outcomes` and `tokens` are what the options are given, `pools`, `weights` and `objective` what their
answers become, `options` finds the one that the configuration names, in here or in a file of the user's, and `rule`
puts them together. Adding one takes a file.
"""
