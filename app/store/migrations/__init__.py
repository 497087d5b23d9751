"""Schema changes, in order. They only ever expand: the release before must run on what they leave."""
