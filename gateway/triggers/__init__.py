"""Triggers call functions by themselves: at times, for entries, files and events."""
