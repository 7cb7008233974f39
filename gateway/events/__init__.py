"""What the platform does by itself: triggers that make calls, and whoever is told of their ends.

One process of this kind leads and runs the services of `services.py`; others stand by.
"""
