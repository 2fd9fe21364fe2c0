"""The settings of `verify`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from delayq.durability import Durability
from delayq.keys import MAX_LANES
from delayq.queue import Ordering
from delayq.settings import Settings, checked, checked_url
from delayq.verify.faults import FAMILIES
from delayq.verify.server import Fsync

Topology = Literal["server", "cluster", "sentinel"]


class VerifySettings(Settings):
    """Show that nothing is lost: break things on purpose, and check what happened."""

    model_config = SettingsConfigDict(
        cli_prog_name="python -m delayq verify", cli_shortcuts={"json-verdict": "json"}
    )

    redis_url: str | None = Field(
        None,
        description="Server, as redis:// or unix://; none: one of its own, which is broken too",
    )
    namespace: str = Field(
        "delayq", description="First part of the name of a namespace that is made for the run"
    )
    topology: Topology = Field(
        "server",
        description="Of its own: one server; a Cluster of three primaries, each with a replica; "
        "or a primary with a replica, and three Sentinels",
    )
    seconds: float = Field(30.0, ge=1, le=86_400, description="How long things are broken, s")
    seed: int | None = Field(None, ge=0, description="Seed of everything that is random; none: any")
    faults: str = Field(
        "", description=f"Which, parted by commas: {', '.join(FAMILIES)}; empty: all that may be"
    )
    ordering: Ordering = Field("key", description="Ordering of the queue")
    lanes: int = Field(1, ge=1, le=MAX_LANES, description="Lanes of the queue")
    consumers: int = Field(3, ge=1, le=16, description="Processes that handle and promote")
    producers: int = Field(2, ge=1, le=16, description="Processes that publish")
    per_second: int = Field(
        400, ge=1, le=20_000, description="Messages published per second, together"
    )
    fault_ms: int = Field(1_000, ge=100, le=60_000, description="Time between faults, mean, ms")
    lease_ttl_ms: int = Field(1_000, ge=300, le=60_000, description="Life of a lease, ms")
    fsync: Fsync | None = Field(
        None,
        description="When its own servers flush to disk; none: they keep nothing on disk. "
        "Unset: always, if it is one, else none",
    )
    durability: Durability = Field("memory", description="What a publish waits for")
    program: Path | None = Field(
        None, description="Program of its own server; none: the embedded one"
    )
    disruptive: bool = Field(
        False, description="On your server too: SCRIPT FLUSH, maxmemory, a busy script"
    )
    json_verdict: bool = Field(False, description="Verdict as one JSON object, the last line")
    report: Path | None = Field(None, description="Folder to write report.html to")

    _checked_name = field_validator("namespace")(checked)
    _checked_url = field_validator("redis_url")(checked_url)

    @field_validator("faults")
    @classmethod
    def _known(cls, value: str) -> str:
        for name in _parted(value):
            if name not in FAMILIES:
                raise ValueError(f"{name}: no such fault; there are {', '.join(FAMILIES)}")
        return value

    @field_validator("program")
    @classmethod
    def _runs(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("no such file")
        return value

    @field_validator("report")
    @classmethod
    def _folder(cls, value: Path | None) -> Path | None:
        if value is not None and value.exists() and not value.is_dir():
            raise ValueError("a folder is needed")
        return value

    @property
    def flushes(self) -> Fsync:
        """When its own servers flush to disk: by default, where their death is to undo nothing."""
        return self.fsync or ("always" if self.topology == "server" else "none")

    @property
    def families(self) -> list[str]:
        """The families of faults that were asked for; none: whichever may be."""
        return _parted(self.faults)


def _parted(faults: str) -> list[str]:
    return [name for part in faults.split(",") if (name := part.strip())]
