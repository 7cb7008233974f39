"""The policy of BCEdge (Zhang et al., 2023): a discrete soft actor-critic; needs torch."""
