"""The name under which AgentJet's users know judges; see docs/from-agentjet.md."""
