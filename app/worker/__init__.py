"""The slot's second process, which counts queued views and purges. It never answers a request."""
