"""delayq: delayed messages and ordered failover on Redis Streams.

The path of a message:

    publish ── publish.lua ──▶ [schedule + bodies] ── promote.lua (poller) ──▶ [stream]
        └──── due now ────────────────────────────────────────────────────────▶ │
                                                                                ▼
               ack ◀── outcome ◀── retry policy ◀── handler ◀── fetch (pending first; then new)
             retry ──▶ in place (ordered), or back to the schedule, same id, deliveries kept
       dead letter ──▶ [dead stream], with its reason
            ticker ── tick.lua ──▶ [schedule], the next tick ahead of its time

    failover: standby ─▶ acquire the lease (epoch grows) ─▶ reclaim the whole pending list in order
              ─▶ delete the old consumer ─▶ handle what was pending ─▶ go on with new entries

    lanes: a key belongs to one of them; each has all of this to itself, and the processes share an
           ordered queue's lanes by their leases
    groups: one stream and one copy of each entry, deleted when all are done with it; each group has
            its own lease, pending list, dead stream, and schedule of retries, which come back to
            the stream for it alone

Where to read:

    publish     app ─▶ appqueue ─▶ queue ─▶ outgoing ─▶ outbox, bulk ─▶ publishing
    schedule    poller ─▶ promoter ─▶ schedule;   ticker ─▶ recurring
    consume     consumer ─▶ seat ─▶ standby ─▶ term ─▶ service: competing, ordered, keyed
    in a term   pace ─▶ pending ─▶ pool ─▶ handling, threads ─▶ retry ─▶ settling, parking
    who leads   lease, heartbeat;   share: who has which lanes;   survey: who died
    operate     lanes ─▶ browse, changes, dead, active, groups, registry
    the server  connection ─▶ transport;   scripts ─▶ lua;   keys, and what they hold: record
"""

from delayq.active import Active
from delayq.app import App
from delayq.appqueue import AppQueue
from delayq.browse import Stats
from delayq.connection import Server
from delayq.consumer import Consumer
from delayq.dead import DeadLetters, Redriven
from delayq.durability import Durability
from delayq.embedded import embedded
from delayq.errors import (
    BacklogFull,
    CannotConfirm,
    DelayqError,
    GroupInUse,
    InvalidCursor,
    InvalidFolder,
    InvalidMessage,
    InvalidName,
    InvalidSettings,
    LanesDiffer,
    LeaseLost,
    NotConfirmed,
    NotOpen,
    ServerError,
    ServerMissing,
    ServerOutOfMemory,
    ServerReadOnly,
    ServerRefused,
    ServerTooOld,
    ServerUnreachable,
)
from delayq.events import Event, Observer
from delayq.fitness import check
from delayq.groups import Start
from delayq.handling import Context, Handler
from delayq.keys import LaneKeys
from delayq.message import Message
from delayq.outgoing import Options, Outgoing, Receipt
from delayq.poller import Poller
from delayq.producer import Producer
from delayq.queue import OnDue, Ordering, Queue
from delayq.record import Page, Record, State
from delayq.retry import OnFailure, Reject, Retry, RetryLater
from delayq.supervisor import Supervisor, signalled

__all__ = [
    "Active",
    "App",
    "AppQueue",
    "BacklogFull",
    "CannotConfirm",
    "Consumer",
    "Context",
    "DeadLetters",
    "DelayqError",
    "Durability",
    "Event",
    "GroupInUse",
    "Handler",
    "InvalidCursor",
    "InvalidFolder",
    "InvalidMessage",
    "InvalidName",
    "InvalidSettings",
    "LaneKeys",
    "LanesDiffer",
    "LeaseLost",
    "Message",
    "NotConfirmed",
    "NotOpen",
    "Observer",
    "OnDue",
    "OnFailure",
    "Options",
    "Ordering",
    "Outgoing",
    "Page",
    "Poller",
    "Producer",
    "Queue",
    "Receipt",
    "Record",
    "Redriven",
    "Reject",
    "Retry",
    "RetryLater",
    "Server",
    "ServerError",
    "ServerMissing",
    "ServerOutOfMemory",
    "ServerReadOnly",
    "ServerRefused",
    "ServerTooOld",
    "ServerUnreachable",
    "Start",
    "State",
    "Stats",
    "Supervisor",
    "check",
    "embedded",
    "signalled",
]
