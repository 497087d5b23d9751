"""What stands in the way of taking over an older Paste12's database, found by reading. Nothing changes it."""
