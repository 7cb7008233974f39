"""What a prediction's webhook is sent: the prediction, as it is shown."""

from __future__ import annotations

from gateway.answer import JSON, dumps
from gateway.delivery.formats import End, Format, Message
from gateway.predictions.records import prediction


def told(end: End) -> Message:
    """The prediction that has ended, without its input."""
    job = end.job
    return Message(dumps(prediction(job.spec, job.status, job.outcome)), JSON)


PREDICTION_FORMAT = Format(told)
