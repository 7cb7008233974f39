"""Jobs by their id: shown, waited for, cancelled."""

from __future__ import annotations

from contract.delivery import Delivery
from contract.errors import JobSettled, UnknownJob
from contract.job import JOB_ID_CHARS, Job, JobId, Status
from gateway import job_answers as answers
from gateway.answer import Answer
from gateway.context import Gateway

_HEX = frozenset("0123456789abcdef")


def show(gateway: Gateway, job_id: str, accept: str, wait_s: float | None) -> Answer:
    """GET /v1/jobs/<id>[?wait=S]: the job as it is, or as it is when it has settled.

    At once where too many wait in this process already.
    """
    job_id = checked(job_id)
    if wait_s is None or gateway.replies.is_full:
        job = gateway.store.jobs.get(job_id)
    else:
        with gateway.replies.expect(job_id, is_poll=True) as waiter:
            job = gateway.store.jobs.watch(job_id, gateway.replies.gateway_id)
            if job.outcome is None:
                waiter.wait(min(wait_s, gateway.settings.max_wait_s))
                job = gateway.store.jobs.get(job_id)
    return answers.shown(job, accept, _deliveries(gateway, job))


def _deliveries(gateway: Gateway, job: Job) -> list[Delivery]:
    """Who was told of its end, or is to be; another round trip for such jobs alone."""
    is_told = job.outcome is not None and job.origin.is_told
    return gateway.store.deliveries.of(job.spec.id) if is_told else []


def cancel(gateway: Gateway, job_id: str, accept: str) -> Answer:
    """DELETE /v1/jobs/<id>: cancel it; cancelling twice is as good as once."""
    job_id = checked(job_id)
    try:
        gateway.store.jobs.cancel(job_id)
    except JobSettled as error:
        if error.extensions.get("status") != Status.CANCELLED:
            raise
    return answers.shown(gateway.store.jobs.get(job_id), accept)


def checked(job_id: str) -> JobId:
    """The id, if it may be one; raises UnknownJob."""
    if len(job_id) != JOB_ID_CHARS or not _HEX.issuperset(job_id):
        raise UnknownJob()
    return JobId(job_id)
