"""Functions whose weights exceed the budget: computed block by block while the next one is read."""
