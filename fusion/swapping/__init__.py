"""Weights on a device with memory of its own: pinned on the host, copied on a stream."""
