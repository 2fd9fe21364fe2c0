"""The settings of the benchmark: what is measured, and the sizes."""

from typing import Literal, get_args

from pydantic import Field, field_validator
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from delayq.settings import Settings, checked, checked_url
from delayq.transport.address import SCHEMES

Measurement = Literal[
    "publish",
    "drain",
    "waiting",
    "lateness",
    "burst",
    "failover",
    "idle",
    "scale",
    "lanes",
    "fanout",
    "all",
]


class BenchSettings(Settings):
    """Measure delayq on your Redis, beside the raw loops of redis-py."""

    model_config = SettingsConfigDict(
        cli_prog_name="python -m delayq bench", cli_shortcuts={"json-output": "json"}
    )

    measurement: CliPositionalArg[Measurement] = Field(
        "all",
        description=", ".join(get_args(Measurement)[:-1]) + "; or all",
    )
    redis_url: str | None = Field(
        None, description="Server, as redis://, rediss:// or unix://; none: an embedded one"
    )
    namespace: str = Field("delayq", description="First part of every key")
    json_output: bool = Field(False, description="Answer as one JSON document on stdout")
    compare: Literal["raw", "none"] = Field(
        "raw", description="Beside the raw loops, or delayq by itself, as for a profiler"
    )
    rounds: int = Field(
        11, ge=1, le=100, description="How often each is measured, in turns; the median counts"
    )
    size: int = Field(
        20_000,
        ge=10,
        le=1_000_000,
        description="publish, drain, waiting, lanes: messages in a round",
    )
    load_seconds: float = Field(
        10, ge=0.1, le=600, description="lateness, idle, fanout: how long each load lasts, s"
    )
    burst: int = Field(5_000, ge=1, le=1_000_000, description="burst: messages due at one instant")
    ends: int = Field(50, ge=1, le=1_000, description="failover: ends of each cause")
    scale: int = Field(
        1_000_000, ge=1_000, le=20_000_000, description="scale: messages scheduled, then due"
    )

    _checked_name = field_validator("namespace")(checked)

    @field_validator("redis_url")
    @classmethod
    def _one_server(cls, value: str | None) -> str | None:
        if value and not value.startswith(SCHEMES):
            raise ValueError(f"one server is measured: {', '.join(SCHEMES)}")
        return checked_url(value)
