"""The name under which AgentJet's users know tasks and outputs; see docs/from-agentjet.md."""
