"""The name under which AgentJet's users know clients of other models; see docs/from-agentjet.md."""
