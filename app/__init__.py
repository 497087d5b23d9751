"""The Paste12 service. It knows nothing of rollouts; no request and no start ever changes the schema."""
