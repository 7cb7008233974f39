"""The Redis keys of Fusebox.

key                    type    holds (changed by)
fb:functions           set     names of deployed functions (publish, retire)
fb:function:<name>     hash    latest -> n, next -> n, v:<n> -> Function (publish, retire),
                               a:<alias> -> Alias (put_alias, remove_alias, retire)
fb:retired             hash    <name>@<n> -> Function, until its last job settles (retire, forget)
fb:job:<id>            hash    spec, function, version, status, fence, attempts, entry, payload,
                               waiters, followers (gateways), progress (id of the last entry),
                               worker, group, outcome, idem, origin (Origin), told (s, f:
                               somebody hears of its success, of any other end), and the notes
                               of trail.py: ahead, planned, ran; once it has ended and while
                               somebody is told d:<n> -> Delivery, left, ttl (spread);
                               expires a set time after that (jobs)
fb:events:<id>         stream  <fence>-<n> -> d: progress of one job, as JSON; expires with it
                               (progress, settle)
fb:pending             stream  j -> job id, s -> JobSpec: exactly the queued jobs (jobs)
fb:outbox              stream  j -> job id, t -> seconds to keep its record once told: settled
                               jobs of whose end somebody is yet to be told (jobs)
fb:due                 zset    lane -> when its next delivery is due, Unix seconds (spread)
fb:due:<lane>          zset    <job id> <n> -> when that delivery is due (spread, delivered)
fb:deliveries          hash    lane -> deliveries that wait in it, '' -> in all (spread, delivered,
                               redeliver)
fb:dlq                 zset    dead letters: job id, or <job id>-<n> -> when it died, Unix seconds;
                               bounded by number, bytes and age (spread, delivered, purge)
fb:dlq:bytes           hash    dead letter -> its bytes, '' -> of all (spread, delivered, purge)
fb:letter:<id>         hash    what fb:job:<id> held, and l:at, l:reason, l:number (as fb:dlq)
fb:webhooks            hash    secret, last, last_until: what webhooks are signed with (rotate)
events:*               stream  event -> CloudEvent, where a destination says so (delivered)
fb:leases              zset    job id -> end of its lease: exactly the running jobs (jobs)
fb:counts              hash    accepted, and one per settled status, ever (jobs)
fb:queued              hash    function -> queued jobs, where there are any (jobs)
fb:drain               hash    function -> jobs settled per second while more waited, '' -> of
                               all; only what is measured, and only of late (scheduler)
fb:costs               hash    what the scheduler has learned of costs, by function version, set of
                               members, worker; at most some megabytes (learn)
fb:prediction          hash    how far predictions were off: compute, total, <name>@<n> -> median
                               and p90 of relative errors, groups (predicted)
fb:inflight            hash    <name>@<n> -> queued and running jobs, where there are any (jobs)
fb:groups              hash    group id -> worker that has it (claim, settle, reap)
fb:signals             stream  k -> kind, d -> data: what the scheduler must hear (settle, workers);
                               the last groups are read from it
fb:scheduling          string  SchedulingNow; expires when no scheduler leads (scheduler)
fb:stats:<name>        hash    counters of one function, see store/telemetry.py (settle); expires a
                               set time after the function was removed (forget)
fb:counters            hash    counters of the platform, see store/telemetry.py (jobs)
fb:worker:<id>         string  WorkerReport; expires when heartbeats stop (workers)
fb:workers             set     ids of workers that have reported or were given jobs (workers, claim)
fb:wanted              hash    <name>@<n> -> number of the want, loaded or unloaded, when: where
                               operators want weights to be (want, unwant, retire)
fb:wanted:last         string  number of the last want (want)
fb:leader:<role>       string  token of the active process; expires with its lease (leader)
fb:log:<name>          stream  what a function's own code printed and raised (telemetry); expires
                               as the counters do
fb:idem:<digest>       string  job id, fingerprint of the request: what an idempotency key
                               stands for; expires with its job (jobs)
fb:keys                hash    id -> ApiKey (access)
fb:keys:used           hash    id -> when it was last used, Unix seconds (use_key, revoke_key)
fb:rate:*              string  how often API keys asked, see gateway/rates.py
fb:triggers            hash    name -> Trigger (trigger_put, trigger_pause, trigger_remove)
fb:triggers:paused     set     names of triggers that are paused (trigger_pause, trigger_remove)
fb:triggers:failing    set     names of those with an error, paused or not (trigger_move,
                               trigger_pause, trigger_remove)
fb:triggers:version    string  how often that hash has changed (the same)
fb:trigger:<name>      hash    Progress of one trigger: place, counts, error (trigger_move)
fb:trigger:<name>:files  hash  file -> signature: what a watch has dealt with (trigger_move)
fb:replies:<gateway>   channel job id, length, Outcome of each job settled in one move (jobs)
fb:nudges:<gateway>    channel id of a job that a client there follows and that has moved (jobs)
fb:coming:<worker>     channel functions whose jobs the worker is likely to get next (scheduler)
fusebox.<worker>       list    the queue of one worker (Celery)

`jobs` are the scripts in `contract/lua/`; each is one atomic move. They build job keys from ids, so
the store is one server (with replicas, if wanted), not a cluster.
"""

from __future__ import annotations

FUNCTIONS = "fb:functions"
RETIRED = "fb:retired"
PENDING = "fb:pending"
LEASES = "fb:leases"
OUTBOX = "fb:outbox"
DUE = "fb:due"
DELIVERIES = "fb:deliveries"
DEAD_LETTERS = "fb:dlq"
WEBHOOKS = "fb:webhooks"
COUNTS = "fb:counts"
QUEUED = "fb:queued"
DRAIN = "fb:drain"
COSTS = "fb:costs"
PREDICTION = "fb:prediction"
INFLIGHT = "fb:inflight"
GROUPS = "fb:groups"
SIGNALS = "fb:signals"
SCHEDULING = "fb:scheduling"
COUNTERS = "fb:counters"
WORKERS = "fb:workers"
TRIGGERS = "fb:triggers"
TRIGGERS_PAUSED = "fb:triggers:paused"
TRIGGERS_FAILING = "fb:triggers:failing"
TRIGGERS_VERSION = "fb:triggers:version"
WANTED = "fb:wanted"
API_KEYS = "fb:keys"
API_KEYS_USED = "fb:keys:used"


def function(name: str) -> str:
    """Versions of one function."""
    return f"fb:function:{name}"


def job(job_id: str) -> str:
    """One job."""
    return f"fb:job:{job_id}"


def idempotency(claim_digest: str) -> str:
    """The job that an idempotency key stands for."""
    return f"fb:idem:{claim_digest}"


def stats(function_name: str) -> str:
    """Counters of one function."""
    return f"fb:stats:{function_name}"


def worker(worker_id: str) -> str:
    """The last report of one worker."""
    return f"fb:worker:{worker_id}"


def leader(role: str) -> str:
    """The lock of one role."""
    return f"fb:leader:{role}"


def log(function_name: str) -> str:
    """The log of one function."""
    return f"fb:log:{function_name}"


def trigger(name: str) -> str:
    """How far one trigger has come."""
    return f"fb:trigger:{name}"


def replies(gateway_id: str) -> str:
    """The channel of one gateway process."""
    return f"fb:replies:{gateway_id}"


def nudges(gateway_id: str) -> str:
    """The channel on which one gateway process hears of jobs that are followed there."""
    return f"fb:nudges:{gateway_id}"


def coming(worker_id: str) -> str:
    """The channel on which one worker hears what to prefetch."""
    return f"fb:coming:{worker_id}"


def queue(worker_id: str) -> str:
    """The Celery queue of one worker."""
    return f"fusebox.{worker_id}"


def due(lane: str) -> str:
    """The deliveries that wait in one lane."""
    return f"fb:due:{lane}"


def letter(letter_id: str) -> str:
    """One dead letter."""
    return f"fb:letter:{letter_id}"
