"""Watches an open window and turns traffic back. It never waits for a controller, nor for a database."""
