"""The sections behind the web page: what it keeps for a while, its history, its laboratory."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from steadyocr.settings.sections import Section


class PageSettings(Section):
    """What the web page's requests leave on the server for a short while."""

    map_keep_s: float = Field(900.0, gt=0, le=86_400, description="seconds after its last use that a map is kept")
    max_maps: int = Field(200, ge=1, le=100_000, description="kept maps; the one unused longest goes first")
    max_map_bytes: int = Field(256 << 20, ge=1 << 20, description="bytes of kept maps and their pictures, on disk")
    gradio: bool = Field(False, description="serve /gradio as well; needs the package steadyocr[gradio]")
    gradio_keep_s: float = Field(900.0, gt=0, le=86_400, description="seconds that files sent to /gradio are kept")
    max_gradio_bytes: int = Field(256 << 20, ge=1 << 20, description="bytes of those files; oldest go first")


class HistorySettings(Section):
    """Pages kept because their sender asked for it; nothing else is."""

    enabled: bool = Field(True, description="keep pages whose request says keep=true")
    keep_s: float = Field(7 * 86_400.0, gt=0, description="seconds after which an entry is deleted")
    max_entries: int = Field(200, ge=1, le=100_000, description="entries; the oldest goes first")
    max_bytes: int = Field(512 << 20, ge=1 << 20, description="bytes of all entries; the oldest goes first")


class LabSettings(Section):
    """Fine-tuning and export from the page, each in a process of its own."""

    enabled: bool = Field(True, description="allow it, where the training packages are installed")
    datasets_dir: str = Field("", description="folder whose subfolders are data sets; empty is DATA_DIR/datasets")
    threads: int = Field(0, ge=0, le=512, description="threads of one process; 0 is half of what the machine has")
    nice: int = Field(15, ge=0, le=19, description="how far training and export stand back from serving")
    max_memory_bytes: int = Field(8 << 30, ge=256 << 20, description="bytes that one such process may hold")
    min_free_memory_bytes: int = Field(512 << 20, ge=0, description="memory that must stay free beside it")
    max_runs: int = Field(20, ge=1, le=1000, description="kept runs; the oldest ended one goes first")
    max_exports: int = Field(10, ge=1, le=1000, description="kept exports; the oldest ended one goes first")
    max_bytes: int = Field(
        4 << 30, ge=64 << 20, description="bytes of all runs, and again of all exports; oldest ended ones go first"
    )
    max_hours: float = Field(24.0, gt=0, le=1000, description="hours after which a run or an export is stopped")
    max_listeners: int = Field(32, ge=1, le=10_000, description="open event streams; one more gets 503")

    def datasets_root(self, data_dir: Path) -> Path:
        """Return the folder of the data sets."""
        return Path(self.datasets_dir) if self.datasets_dir else data_dir / "datasets"
