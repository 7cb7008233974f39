"""The doors of the gateway, beside its own API under `/v1`."""

from __future__ import annotations

from gateway.aws.door import AWS
from gateway.door import Door
from gateway.openfaas.door import OPENFAAS
from gateway.predictions.door import PREDICTIONS

DOORS: tuple[Door, ...] = (
    AWS,
    OPENFAAS,
    PREDICTIONS,
)
