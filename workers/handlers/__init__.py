"""Handler hosts: the child processes in which a function's own code runs."""
