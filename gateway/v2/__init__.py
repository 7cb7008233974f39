"""The Open Inference Protocol V2 over HTTP, with Triton's extensions.

Requests of any V2 client become `gateway.calls.Call`s; docs/clients/v2.md says what is what.
"""
