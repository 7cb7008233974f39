"""The scheduler, the Celery workers, and the handler hosts."""
