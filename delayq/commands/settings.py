"""The settings of the operators' commands. What stands at a place of its own is no variable."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import CliPositionalArg, NoDecode, SettingsConfigDict

from delayq.connection import Server
from delayq.durability import Durability
from delayq.keys import GROUP, MAX_LANES, LaneKeys
from delayq.message import MAX_DELAY_MS
from delayq.record import State
from delayq.settings import Settings, checked

_SERVER_IS_MISSING = (
    "not set; it names the server to work on; `python -m delayq server` runs one and tells its URL"
)
MAX_DELAY_S = MAX_DELAY_MS / 1000


class OperatorSettings(Settings):
    """What every command on queues needs."""

    model_config = SettingsConfigDict(cli_shortcuts={"json-output": "json"})

    redis_url: str | None = Field(
        None,
        description="Server: redis[s]://, unix://, redis[s]+cluster:// or redis[s]+sentinel://",
        validate_default=True,
    )
    namespace: str = Field("delayq", description="First part of every key")
    json_output: bool = Field(False, description="Answer as one JSON document on stdout")

    @field_validator("redis_url")
    @classmethod
    def _url(cls, value: str | None) -> str:
        if not value:
            raise ValueError(_SERVER_IS_MISSING)
        return Server(value).url

    @field_validator("namespace", "queue", "group", "group_name", check_fields=False)
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        return checked(value)

    @field_validator("deliver_at", check_fields=False)
    @classmethod
    def _moment(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a timezone is needed, such as Z or +02:00 at the end")
        return value

    @property
    def server(self) -> Server:
        """The server to work on."""
        return Server(str(self.redis_url))


def _described(name: str) -> SettingsConfigDict:
    return SettingsConfigDict(cli_prog_name=f"python -m delayq {name}")


class QueueSettings(OperatorSettings):
    """What every command on one queue needs."""

    queue: CliPositionalArg[str] = Field(description="Name of the queue")


class GroupSettings(QueueSettings):
    """Of which group; what is scheduled of another than the queue's own is its retries."""

    group: str = Field(GROUP, description="As this group of the queue sees it")

    @property
    def full_name(self) -> str:
        """See `LaneKeys.full_name`."""
        return LaneKeys(self.namespace, self.queue, group=self.group).full_name


class MessageSettings(GroupSettings):
    """What every command on one message needs."""

    message_id: CliPositionalArg[str] = Field(description="Id of the message")
    key: str | None = Field(None, description="Ordering key: only the lane where it is, is asked")


class TimeSettings(OperatorSettings):
    """When a message is to be delivered."""

    delay: float | None = Field(None, ge=0, le=MAX_DELAY_S, description="Deliver after so long, s")
    deliver_at: datetime | None = Field(
        None, description="Deliver at this time: ISO 8601 with a timezone; past is now"
    )


class PublishSettings(TimeSettings, QueueSettings):
    """Publish one message."""

    model_config = _described("publish")

    body: CliPositionalArg[str] = Field("-", description="Body as JSON; '-' reads it from stdin")
    key: str | None = Field(None, description="Ordering key")
    id: str | None = Field(None, description="Id of the message; none: a random one")
    dedup_id: str | None = Field(
        None, description="Of several messages with the same one, the first is the only one"
    )
    durability: Durability = Field(
        "memory", description="What to wait for: memory, replicated, or fsynced"
    )
    header: Annotated[list[str], NoDecode] = Field(
        [], description="Header as name=value; may be repeated"
    )

    @field_validator("header", mode="before")
    @classmethod
    def _headers(cls, value: Any) -> Any:
        return _undone(value)

    @property
    def headers(self) -> dict[str, str]:
        """The headers by name."""
        return dict(part.split("=", 1) for part in self.header)

    @field_validator("header")
    @classmethod
    def _named(cls, value: list[str]) -> list[str]:
        if any(part.find("=") < 1 for part in value):
            raise ValueError("name=value is needed")
        return value


class StatsSettings(OperatorSettings):
    """Count what is where in a queue, or in all of the namespace."""

    model_config = _described("stats")

    queue: CliPositionalArg[str | None] = Field(None, description="Name of the queue; none: all")


class PageSettings(OperatorSettings):
    """Which part of a list."""

    limit: int = Field(50, ge=1, le=500, description="Messages to list at most")
    after: str = Field("", description="Cursor that the page before ended with")


class ListSettings(PageSettings, GroupSettings):
    """List the messages of a state in their order."""

    model_config = _described("list")

    state: CliPositionalArg[State] = Field(description="scheduled, ready, pending or dead")


class ShowSettings(MessageSettings):
    """Show one message, wherever it is; looks through the whole stream if need be."""

    model_config = _described("show")


class CancelSettings(MessageSettings):
    """Take a message off the schedule."""

    model_config = _described("cancel")


class RescheduleSettings(TimeSettings, MessageSettings):
    """Give a scheduled message another due time."""

    model_config = _described("reschedule")


class ConfirmedSettings(QueueSettings):
    """What is asked about before it is done."""

    yes: bool = Field(False, description="Do it without asking")


class PurgeSettings(ConfirmedSettings, GroupSettings):
    """Delete all messages of a state; never those that are pending."""

    model_config = _described("purge")

    state: CliPositionalArg[Literal["scheduled", "ready", "dead"]] = Field(
        description="scheduled, ready or dead"
    )


class DeadListSettings(PageSettings, GroupSettings):
    """List dead letters, oldest first."""

    model_config = _described("dead list")


class LetterSettings(ConfirmedSettings, GroupSettings):
    """Which dead letters; by default all."""

    ids: Annotated[list[str], NoDecode] = Field(
        [], description="Only the letter of this message; may be repeated"
    )
    reason: str | None = Field(None, description="Only letters that died for exactly this reason")

    @field_validator("ids", mode="before")
    @classmethod
    def _ids(cls, value: Any) -> Any:
        return _undone(value)


class RedriveSettings(LetterSettings):
    """Send dead letters again: behind what is ready now, also behind later ones of their key."""

    model_config = _described("dead redrive")

    rate: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Messages per second at most"
    )


class DeadPurgeSettings(LetterSettings):
    """Delete dead letters."""

    model_config = _described("dead purge")

    older_than: float | None = Field(
        None, ge=0, le=MAX_DELAY_S, description="Only letters that have been dead for longer, s"
    )


class WhoSettings(GroupSettings):
    """Tell which consumer is active in each lane, since when, and which ones stand by."""

    model_config = _described("who")


class LaneSettings(GroupSettings):
    """Which lane."""

    lane: int | None = Field(None, ge=0, lt=MAX_LANES, description="Only this lane; none: all")


class HandoverSettings(LaneSettings):
    """Ask the active consumers to pass on after what they have in hand, and tell who took over."""

    model_config = _described("handover")

    wait_ms: int = Field(30_000, ge=1, le=3_600_000, description="How long to wait for it, ms")


class ResumeSettings(LaneSettings):
    """Have halted lanes go on, with the message that each stopped at, delivered anew."""

    model_config = _described("resume")

    skip: bool = Field(False, description="Make a dead letter of that message, and go on past it")


class LanesSettings(QueueSettings):
    """Tell how many lanes a queue has; or set that, while the queue is empty and nobody uses it."""

    model_config = _described("lanes")

    number: CliPositionalArg[int | None] = Field(
        None, ge=1, le=MAX_LANES, description="How many it shall have; none: tell"
    )


class DropGroupSettings(ConfirmedSettings):
    """Take a group of a queue away, with its retries, its dead letters, and what is kept for it."""

    model_config = _described("drop-group")

    group_name: CliPositionalArg[str] = Field(description="Name of the group")


class DoctorSettings(OperatorSettings):
    """Check the server, the permissions of this user, and the queues."""

    model_config = _described("doctor")

    queue: CliPositionalArg[str | None] = Field(None, description="Name of the queue; none: all")


def _undone(value: Any) -> Any:
    """Read a list of strings: as flags they come quoted; a variable is one, or a JSON array."""
    if not isinstance(value, str):
        return value
    try:
        parts = json.loads(f"[{value}]")
    except ValueError:
        return [value]
    if len(parts) == 1 and isinstance(parts[0], list):
        return parts[0]
    return parts if all(isinstance(part, str) for part in parts) else [value]
