"""The command line. Commands import what they need themselves, so that each starts fast."""

from __future__ import annotations

import asyncio
import faulthandler
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from steadyocr import __version__
from steadyocr.cli import alerts, doctor, flight, jobs, offline, systemd, work
from steadyocr.cli.exit_codes import ExitCode, exit_code_of
from steadyocr.errors import SteadyOCRError

app = typer.Typer(
    name="steadyocr",
    help="A self-hosted OCR service that stays up.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="settings file (TOML); see 'steadyocr config'", show_default=False)
]


def main() -> None:
    """Run the command line; our own errors become one line and an exit code."""
    try:
        app()
    except SteadyOCRError as error:
        _end(error)
    except OSError as error:
        if error.filename is None:  # no file that somebody has named: a fault of ours, with its trace
            raise
        sys.stderr.write(f"steadyocr: {error.filename}: {error.strerror}\n")
        raise SystemExit(ExitCode.FAILED) from None
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None


def _end(error: SteadyOCRError) -> NoReturn:
    sys.stderr.write(f"steadyocr: {error.message} [{error.code}]\n")
    raise SystemExit(exit_code_of(error))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on [127.0.0.1]", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="port; 0 takes a free one [7860]", show_default=False)] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="allow a public address without API keys")] = False,
    config_file: ConfigFile = None,
) -> None:
    """Serve OCR over HTTP until SIGTERM or Ctrl-C."""
    from steadyocr.api.server import serve as serve_http
    from steadyocr.ops.companions import COMPANIONS
    from steadyocr.settings import Settings, load_settings
    from steadyocr.telemetry import logging as logs
    from steadyocr.webui.gradio_page import mount_gradio
    from steadyocr.webui.routes import open_paths, open_prefixes, page_router

    given: dict[str, Any] = {"host": host, "port": port, "insecure": insecure or None}
    overrides = {"server": {key: value for key, value in given.items() if value is not None}}

    def read() -> Settings:
        return load_settings(overrides, config_file=config_file)[0]

    settings = read()
    logs.configure(settings.logging.format, settings.logging.level, settings.log_files())
    # A watchdog's SIGABRT, or a fault, leaves a trace of every thread in the log.
    faulthandler.enable()
    asyncio.run(
        serve_http(
            settings,
            extra_routers=(page_router(),),
            open_paths=open_paths(),
            open_prefixes=open_prefixes(),
            mounts=(mount_gradio,),
            reread=read,
            companions=COMPANIONS,
        )
    )


@app.command("ocr")
def ocr_files(
    files: Annotated[list[Path], typer.Argument(help="pictures to read")],
    page_format: Annotated[
        str, typer.Option("--format", "-f", help="json, text, markdown, csv or overlay.png")
    ] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder for one answer per picture", show_default=False)
    ] = None,
    bin_threshold: Annotated[float | None, typer.Option(help="see /v1/options", show_default=False)] = None,
    box_threshold: Annotated[float | None, typer.Option(help="see /v1/options", show_default=False)] = None,
    unclip_ratio: Annotated[float | None, typer.Option(help="see /v1/options", show_default=False)] = None,
    max_side: Annotated[int | None, typer.Option(help="see /v1/options", show_default=False)] = None,
    quality: Annotated[str | None, typer.Option(help="shrink or tile; see /v1/options", show_default=False)] = None,
    recognise: Annotated[bool, typer.Option(help="read the lines, not only find them")] = True,
    config_file: ConfigFile = None,
) -> None:
    """Read pictures here, without a server: same engines, same limits, same answers."""
    from steadyocr.cli.ocr import OcrRun, run_files

    options = {
        "bin_threshold": bin_threshold,
        "box_threshold": box_threshold,
        "unclip_ratio": unclip_ratio,
        "max_side": max_side,
        "quality": quality,
        "recognise": recognise,
    }
    chosen = {name: value for name, value in options.items() if value is not None}
    run = OcrRun(files=files, page_format=page_format, output=output, options=chosen, config_file=config_file)
    raise typer.Exit(asyncio.run(run_files(run)))


@app.command("config")
def show_config(config_file: ConfigFile = None) -> None:
    """Print every setting, its value and where the value came from."""
    from steadyocr.cli.config import print_settings

    print_settings(config_file)


offline.register(app)
systemd.register(app)
doctor.register(app)
alerts.register(app)
flight.register(app)
work.register(app)
jobs.register(app)


if __name__ == "__main__":
    main()
