"""The truth of one target: HAProxy, journal, lock, flags. It decides nothing, and never asks a database."""
