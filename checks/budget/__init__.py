"""The connections a site can open, held against what its servers give. It never opens them to find out."""
