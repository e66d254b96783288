"""The tools that others use for this, each behind the same few steps, and ours among them."""
