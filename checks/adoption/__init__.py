"""What a Paste12 that runs today is like, before it is taken over. It reads, and never changes anything."""
