"""The slot's second process, which counts queued views and purges if told to. It never answers a request."""
