"""All runs of a results folder, read together: what was measured before, and what changed since."""
