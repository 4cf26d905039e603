"""The watch over the broker and the workers."""
