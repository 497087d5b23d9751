"""Truly concurrent views and what they did. A burst that was none is never a pass."""
