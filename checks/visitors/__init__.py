"""Simulated people and their ledger. What they do is traffic, and never aimed at an instance itself."""
