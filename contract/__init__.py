"""What the processes of Fusebox agree on: records, their encodings, the store, settings, errors."""
