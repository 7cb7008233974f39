"""Which jobs run together, where and when: pure policy, learned costs, and the loop around them."""
