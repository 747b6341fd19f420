"""Configuration: YAML and command line in, one validated `Config` object out.

    conf/*.yaml + overrides ──compose──▶ DictConfig ──to_object──▶ Config ──validate──▶ assemble

Components declare their own settings, a dataclass an option, with `fields`; `options` finds these dataclasses and
`root` nests them. `Config` is plain Python: no DictConfig leaves this package. Left out on purpose: frozen dataclasses
(the command line must be able to override), defaults that depend on the machine, and anything that imports torch.
Nothing is imported here, for components import `ajet.config.fields` and are imported by `ajet.config.root`.
"""
