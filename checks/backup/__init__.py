"""Dump, prove by a restore, keep. Nothing is ever called a backup that was not restored and equal."""
