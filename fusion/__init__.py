"""From an artifact's graph to a fused DAG on a device. See docs/fusion.md."""
