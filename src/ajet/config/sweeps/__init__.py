"""Sweeps: which jobs there are, and what each job's folder says of it.

`axis.py` turns `sweep=powerset` and its kin into choices of `trainable_targets`; `records.py` reads and writes
`sweep.json` and each job's `job.json`; `job.py` runs one job so that a sweep that was killed can be resumed.
Hydra's sweepers and launchers do the rest.
"""
