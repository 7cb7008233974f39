"""The routes of an OpenFaaS gateway onto functions and jobs."""
