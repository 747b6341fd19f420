"""Module names that AgentJet's users import: `ajet.schema`, `ajet.task_judge`, `ajet.task_rollout`, `ajet.utils`.

`ajet/__init__.py` puts this folder on the package's path, so that they are found here; see docs/from-agentjet.md.
"""
