"""How members become one executable: a strategy takes the members' work and runs all of it."""
