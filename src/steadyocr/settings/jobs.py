"""The section about batch jobs: where they are kept, how many, how large, how long."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr

from steadyocr.jobs.config import GRACE_S, ArchiveLimits, RetentionConfig, RunnerConfig, StoreConfig, WebhookConfig
from steadyocr.jobs.webhook_post import signing_key
from steadyocr.settings.sections import Section

# A blob belongs to nobody until its job is stored, so it must live longer than any upload takes, and then some.
_ORPHAN_SLACK_S = 3600.0
# An archive is an item itself; a full one must still fit.
_ARCHIVES = 100


# As drivers split them: a password may hold anything but "@", and may stand among the options as well.
_USERS_PASSWORD = re.compile(r"^([^:/]+://[^:/@]*):[^@]*@")
_OPTION = re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)


def _without_password(url: str) -> str:
    return _OPTION.sub(r"\1***", _USERS_PASSWORD.sub(r"\1:***@", url))


# Shown in /v1/info and by ``steadyocr config``.
SecretUrl = Annotated[str, PlainSerializer(_without_password)]


_MIN_SECRET = 16


def _long_enough(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text and len(text) < _MIN_SECRET:
        raise ValueError(f"a secret for signing has at least {_MIN_SECRET} characters")
    signing_key(text)
    return secret


def _split(value: object) -> object:
    # The environment gives one text.
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class JobSettings(Section):
    """Batch jobs: the store, its bounds, and this node's part in the work."""

    url: SecretUrl = Field("", description="database: sqlite:////FILE or postgresql://…; empty is a file in data_dir")
    blobs: SecretUrl = Field("", description="pictures: a folder or s3://bucket/prefix; empty is a folder in data_dir")
    s3_endpoint: str = Field("", description="address of an S3 server; keys and region come from AWS_… variables")
    slots: int = Field(0, ge=0, le=512, description="items this node has in hand at most; 0 is engines + 2")
    lease_s: float = Field(30.0, ge=1, le=3600, description="seconds after which a silent node loses its items")
    max_attempts: int = Field(3, ge=1, le=100, description="bad runs after which an item is dead")
    max_files: int = Field(10_000, ge=1, le=1_000_000, description="items of one job, unpacked archives included")
    max_waiting: int = Field(200_000, ge=1, description="items of all jobs that may wait; new jobs get 503 beyond")
    max_upload_bytes: int = Field(4 << 30, ge=1024, description="bytes of all files of one job as they are sent")
    max_unpacked_bytes: int = Field(4 << 30, ge=1024, description="bytes of one archive when unpacked")
    max_ratio: float = Field(250.0, ge=1, description="unpacked over packed size of a file in an archive")
    max_uploads: int = Field(8, ge=1, le=1000, description="jobs that may be sent at the same time; one more gets 503")
    upload_timeout_s: float = Field(3600.0, gt=0, le=86_400, description="seconds that sending one job may take")
    max_listeners: int = Field(64, ge=1, le=10_000, description="open event streams; one more gets 503")
    keep_s: float = Field(7 * 86_400.0, gt=0, description="seconds after which an ended job is deleted")
    max_stored_bytes: int = Field(
        20 << 30,
        ge=1 << 20,
        description="bytes of all jobs; beyond, jobs that ended over an hour ago go, or new ones get 507",
    )
    min_free_bytes: int = Field(512 << 20, ge=0, description="free disk space below which nothing new is taken in")
    webhook_secret: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""), description="signs completion webhooks; any text, or whsec_BASE64; empty refuses webhooks"
    )
    webhook_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_split)] = Field(
        (), description="networks that are not public and that webhooks may go to all the same, like 10.0.0.0/8"
    )
    webhook_attempts: int = Field(8, ge=1, le=50, description="tries after which a webhook is given up")
    webhook_timeout_s: float = Field(10.0, gt=0, le=120, description="seconds that one try of a webhook may take")
    clean_interval_s: float = Field(300.0, gt=0, le=86_400, description="seconds between two rounds of cleaning up")

    def database_url(self, data_dir: Path) -> str:
        """Return the URL of the database."""
        # What means something in a URL may be in a folder's name: "?" cut it off, and "%41" was read as "A".
        return self.url or f"sqlite:///{quote(str((data_dir / 'jobs' / 'jobs.db').absolute()))}"

    def blobs_url(self, data_dir: Path) -> str:
        """Return where blobs are kept."""
        return self.blobs or str((data_dir / "jobs" / "blobs").absolute())

    def s3_options(self) -> dict[str, str]:
        """Return what the blob store is told beyond its URL."""
        return {"endpoint": self.s3_endpoint} if self.s3_endpoint else {}

    def store_config(self) -> StoreConfig:
        """Derive what the store is told."""
        return StoreConfig(
            max_attempts=self.max_attempts,
            max_items=self.max_files + _ARCHIVES,
            min_free_bytes=self.min_free_bytes,
            max_stored_bytes=self.max_stored_bytes,
            # What goes by its age before that is not promised for longer.
            grace_s=min(GRACE_S, self.keep_s),
        )

    def archive_limits(self, max_picture_bytes: int) -> ArchiveLimits:
        """Derive what an archive may be."""
        return ArchiveLimits(
            max_entries=self.max_files,
            max_entry_bytes=max_picture_bytes,
            max_total_bytes=self.max_unpacked_bytes,
            max_ratio=self.max_ratio,
        )

    def runner_config(self, engines: int, max_picture_bytes: int) -> RunnerConfig:
        """Derive what the runner is told. One slot more than engines: outcomes are written while engines work."""
        return RunnerConfig(
            slots=self.slots or engines + 2, lease_s=self.lease_s, archive=self.archive_limits(max_picture_bytes)
        )

    def webhook_config(self) -> WebhookConfig | None:
        """Derive how ends of jobs are told; ``None`` when there is nothing to sign with."""
        secret = self.webhook_secret.get_secret_value()
        if not secret:
            return None
        return WebhookConfig(
            secret=signing_key(secret),
            networks=self.webhook_networks,
            max_attempts=self.webhook_attempts,
            timeout_s=self.webhook_timeout_s,
        )

    def retention_config(self) -> RetentionConfig:
        """Derive how long things are kept."""
        return RetentionConfig(
            keep_s=self.keep_s,
            max_bytes=self.max_stored_bytes,
            orphan_age_s=self.upload_timeout_s + _ORPHAN_SLACK_S,
            interval_s=self.clean_interval_s,
        )
