"""The doors of the gateway, beside its own API under `/v1`, and how their webhooks are told."""

from __future__ import annotations

from gateway.aws.door import AWS
from gateway.delivery.formats import FORMATS
from gateway.door import Door
from gateway.openfaas.callbacks import FORMAT as OPENFAAS_CALLBACK
from gateway.openfaas.callbacks import OPENFAAS_FORMAT
from gateway.openfaas.door import OPENFAAS
from gateway.predictions.door import PREDICTIONS
from gateway.predictions.telling import PREDICTION_FORMAT
from gateway.predictions.wishes import FORMAT as PREDICTION_WEBHOOK
from gateway.triggers.door import TRIGGERS
from gateway.v2.door import V2

DOORS: tuple[Door, ...] = (
    AWS,
    OPENFAAS,
    PREDICTIONS,
    TRIGGERS,
    V2,
)

FORMATS[OPENFAAS_CALLBACK] = OPENFAAS_FORMAT
FORMATS[PREDICTION_WEBHOOK] = PREDICTION_FORMAT
