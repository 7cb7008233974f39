"""Operations of the Lambda API that have nothing to act on here, answered as what they are."""

from __future__ import annotations

from contract.function import FunctionRef
from gateway.answer import Answer, json_answer
from gateway.aws.errors import AwsError
from gateway.aws.names import unqualified
from gateway.context import Gateway

_NO_RESERVED = (
    "ReservedConcurrentExecutions: expected none, functions have no concurrency of their own: all "
    "share the devices, in fair shares; how many jobs of one may wait is bounded by "
    "FUSEBOX_FUNCTION_QUEUE_LIMIT"
)
_DEPLOY = (
    "Functions are PyTorch models and are not made of ZIP files or images: deploy with "
    "`fusebox deploy handler.py --name {name}`"
)


def show(gateway: Gateway, name: str) -> Answer:
    """GET .../concurrency: no function has any reserved."""
    gateway.store.functions.get(FunctionRef(unqualified(name)))
    return json_answer({})


def put(gateway: Gateway, name: str) -> Answer:
    """PUT .../concurrency: refused."""
    gateway.store.functions.get(FunctionRef(unqualified(name)))
    raise AwsError("InvalidParameterValueException", 400, _NO_RESERVED)


def remove(gateway: Gateway, name: str) -> Answer:
    """DELETE .../concurrency: there is none afterwards, as before."""
    gateway.store.functions.get(FunctionRef(unqualified(name)))
    return Answer(b"", 204)


def refuse_code(name: str = "NAME") -> Answer:
    """CreateFunction, UpdateFunctionCode and UpdateFunctionConfiguration: refused, saying how."""
    text = _DEPLOY.format(name=name if name == "NAME" else unqualified(name))
    raise AwsError("InvalidParameterValueException", 400, text)
