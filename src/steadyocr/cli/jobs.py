"""``steadyocr batch`` and ``steadyocr jobs``: many pictures as durable jobs, and what becomes of jobs."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from steadyocr.cli.jobs_desk import Desk

_DAY_S = 86_400.0

To = Annotated[str | None, typer.Option("--to", help="URL of a server; without, the jobs of this machine")]
Key = Annotated[
    str | None, typer.Option("--api-key", envvar="STEADYOCR_API_KEY", help="key for the server", show_default=False)
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="settings file (TOML); see 'steadyocr config'", show_default=False)
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="id of a job")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("batch")(batch)
    jobs = typer.Typer(help="What becomes of batch jobs, here or at a server.", no_args_is_help=True)
    jobs.command("list")(list_jobs)
    jobs.command("show")(show_job)
    jobs.command("cancel")(cancel_job)
    jobs.command("retry")(retry_job)
    jobs.command("prune")(prune_jobs)
    app.add_typer(jobs, name="jobs")


def batch(
    sources: Annotated[list[str], typer.Argument(metavar="DIR|ZIP|FILE|GLOB...", help="what to read")],
    to: To = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder for one answer per picture", show_default=False)
    ] = None,
    page_format: Annotated[
        str, typer.Option("--format", "-f", help="json, text, markdown, csv or overlay.png")
    ] = "text",
    max_side: Annotated[int | None, typer.Option(help="see /v1/options", show_default=False)] = None,
    quality: Annotated[str | None, typer.Option(help="shrink or tile; see /v1/options", show_default=False)] = None,
    recognise: Annotated[bool, typer.Option(help="read the lines, not only find them")] = True,
    anew: Annotated[bool, typer.Option("--new", help="start from the beginning, whatever was done before")] = False,
    api_key: Key = None,
    config_file: ConfigFile = None,
) -> None:
    """Read many pictures as one job that survives whatever happens to this command.

    With --to the server does the work, without this process does. Either way the same command, given again, goes on
    where it was broken off: a batch is known by the names and the content of its files.
    """
    from steadyocr.cli.batch import BatchRun, run_batch

    options = {"max_side": max_side, "quality": quality, "recognise": recognise}
    run = BatchRun(
        sources=sources,
        to=to,
        api_key=api_key,
        page_format=page_format,
        output=output,
        options={name: value for name, value in options.items() if value is not None},
        anew=anew,
        config_file=config_file,
    )
    raise typer.Exit(asyncio.run(run_batch(run)))


def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="no more than this many")] = 50,
    state: Annotated[str | None, typer.Option(help="only these, like running", show_default=False)] = None,
    to: To = None,
    api_key: Key = None,
    config_file: ConfigFile = None,
) -> None:
    """List jobs, newest first."""
    from steadyocr.cli.jobs_desk import print_jobs

    with _desk(to, api_key, config_file) as desk:
        print_jobs(desk.newest(limit, state))


def show_job(
    job: JobId,
    to: To = None,
    api_key: Key = None,
    config_file: ConfigFile = None,
) -> None:
    """Show how a job stands, and which of its items failed."""
    from steadyocr.cli.jobs_desk import print_job

    with _desk(to, api_key, config_file) as desk:
        print_job(desk.show(job), desk.failures(job))


def cancel_job(job: JobId, to: To = None, api_key: Key = None, config_file: ConfigFile = None) -> None:
    """End what waits; what is being read is stopped."""
    with _desk(to, api_key, config_file) as desk:
        typer.echo(f"{job}: {desk.cancel(job)['state']}")


def retry_job(job: JobId, to: To = None, api_key: Key = None, config_file: ConfigFile = None) -> None:
    """Run a job's failed and dead items again."""
    with _desk(to, api_key, config_file) as desk:
        before = desk.show(job)
        after = desk.retry(job)
        again = before["failed"] + before["dead"] - after["failed"] - after["dead"]
        typer.echo(f"{job}: {again} items run again")


def prune_jobs(
    days: Annotated[float, typer.Option(min=0, help="jobs that ended longer ago than this")] = 7.0,
    everything: Annotated[bool, typer.Option("--all", help="all jobs that have ended")] = False,
    to: To = None,
    api_key: Key = None,
    config_file: ConfigFile = None,
) -> None:
    """Delete ended jobs and their results; their pictures follow once no upload under way can need them."""
    with _desk(to, api_key, config_file) as desk:
        deleted = desk.prune(0.0 if everything else days * _DAY_S)
        typer.echo(f"{deleted} jobs deleted")


def _desk(to: str | None, api_key: str | None, config_file: Path | None) -> Desk:
    from steadyocr.cli.jobs_desk import LocalDesk, RemoteDesk
    from steadyocr.cli.remote import Remote
    from steadyocr.settings import load_settings

    if to is not None:
        return RemoteDesk(Remote(to, api_key, partial(typer.echo, err=True)))
    settings, _ = load_settings(config_file=config_file)
    return LocalDesk(settings)
