"""The name under which AgentJet's users know a chat model that tries again; see docs/from-agentjet.md."""
