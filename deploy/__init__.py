"""The command line `fusebox`: packaging, the HTTP client, and running the whole platform."""
