"""The Paste12 service: short notes that expire, counted exactly under any concurrency."""
