"""The HTTP side of Fusebox: a Flask application that accepts jobs and waits for their replies."""
