"""What happens when a job has ended: its destinations are told, whatever it takes, or it is said.

`service.run` takes ended jobs from the outbox and has their deliveries made; the store knows of
each when it is to be tried next, so that nothing is lost with a process.
"""
