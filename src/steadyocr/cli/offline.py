"""The commands of the offline side: evaluate and, with torch, train and export. They import their work themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="settings file (TOML); see 'steadyocr config'", show_default=False)
]
Backend = Annotated[str, typer.Option(help="auto, openvino, onnxruntime or torch")]
Threads = Annotated[int, typer.Option(min=0, help="threads of one inference; 0 fits the machine")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train)
    app.command("synth")(synth)
    app.command("evaluate")(evaluate)
    app.command("export")(export)
    models = typer.Typer(help="List, import, choose and check models.", no_args_is_help=True)
    models.command("list")(models_list)
    models.command("import")(models_import)
    models.command("use")(models_use)
    models.command("verify")(models_verify)
    app.add_typer(models, name="models")
    dataset = typer.Typer(help="Check, repair and divide labelled pictures.", no_args_is_help=True)
    dataset.command("check")(dataset_check)
    dataset.command("split")(dataset_split)
    app.add_typer(dataset, name="dataset")


def train(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="labelled pictures, ICDAR-2015 or another layout")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="run folder, new or to resume")] = Path("workdirs/run"),
    val: Annotated[Path | None, typer.Option(help="pictures to judge on, if not FOLDER's test_list.txt")] = None,
    init: Annotated[
        str, typer.Option(help="checkpoint, model folder or name to start from [in use, else resnet18-db]")
    ] = "",
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="start from random weights")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="go on with the run folder's last checkpoint, as it was asked for; "
            "--epochs, --max-minutes, --device, --threads, --workers and --cache-mb may change",
        ),
    ] = False,
    config_json: Annotated[
        Path | None,
        typer.Option("--train-config", help="all but these as JSON, see a run folder's config.json"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="crops in a step")] = 8,
    epochs: Annotated[int, typer.Option(min=1, help="how many")] = 5,
    crops_per_picture: Annotated[int, typer.Option(min=1, help="crops cut from each in an epoch")] = 4,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 0.007,
    crop_size: Annotated[int, typer.Option(help="side of a crop in pixels, a multiple of 32")] = 640,
    inner_channels: Annotated[int, typer.Option(help="width of the neck, with --from-scratch")] = 64,
    max_minutes: Annotated[float, typer.Option(help="stop after so long; 0 is unlimited")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="of everything random")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    threads: Annotated[int, typer.Option(help="of torch on the CPU; 0 leaves torch's choice")] = 0,
    workers: Annotated[int, typer.Option(help="processes that make crops; 0 makes them in this one")] = 1,
    cache_mb: Annotated[int, typer.Option(min=0, help="decoded pictures each of them keeps, in MB")] = 1024,
    config_file: ConfigFile = None,
) -> None:
    """Fine-tune the detector on your pictures; the defaults are the original system's."""
    need_torch()
    from steadyocr.cli.train import TrainRun, run_training

    run = TrainRun(
        folder=folder,
        out=out,
        val=val,
        init=init,
        from_scratch=from_scratch,
        resume=resume,
        config_json=config_json,
        batch_size=batch_size,
        epochs=epochs,
        crops_per_picture=crops_per_picture,
        lr=lr,
        crop_size=crop_size,
        inner_channels=inner_channels,
        max_minutes=max_minutes,
        seed=seed,
        device=device,
        threads=threads,
        workers=workers,
        cache_mb=cache_mb,
        config_file=config_file,
        given=_given(context),
    )
    raise typer.Exit(run_training(run, typer.echo))


def synth(
    out: Annotated[Path, typer.Option("--out", "-o", help="new folder")],
    count: Annotated[int, typer.Option(min=1, help="how many pictures")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="same seed, same pictures")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
    backgrounds: Annotated[Path | None, typer.Option(help="photographs nearly free of text")] = None,
    corpora: Annotated[Path | None, typer.Option(help="folder with zhwiki.txt, enwiki.txt, ...")] = None,
    kinds: Annotated[str, typer.Option(help="with commas between; all by default")] = "",
) -> None:
    """Render labelled training pictures."""
    from steadyocr.cli.synth import SynthRun, run_synth

    wanted = tuple(kind.strip() for kind in kinds.split(",") if kind.strip())
    run_synth(
        SynthRun(
            out=out, count=count, seed=seed, workers=workers, backgrounds=backgrounds, corpora=corpora, kinds=wanted
        )
    )


def evaluate(
    data: Annotated[list[Path], typer.Argument(help="folders of labelled pictures")],
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="model name or folder; may be repeated")
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="a bare ONNX detector", show_default=False)] = None,
    channel_order: Annotated[str, typer.Option(help="of --onnx: RGB or BGR")] = "RGB",
    mean: Annotated[str, typer.Option(help="of --onnx, in its channel order, 0-255")] = "123.675,116.28,103.53",
    std: Annotated[str, typer.Option(help="of --onnx, likewise")] = "58.395,57.12,57.375",
    bin_thresholds: Annotated[str, typer.Option("--bin", help="one or several with commas: the best counts")] = "",
    box_thresholds: Annotated[str, typer.Option("--box", help="likewise")] = "",
    unclip_ratios: Annotated[str, typer.Option("--unclip", help="likewise")] = "",
    max_side: Annotated[int | None, typer.Option(help="longer side shown, in pixels", show_default=False)] = None,
    min_side: Annotated[int, typer.Option(min=0, help="enlarge pictures to this shorter side; 0 never does")] = 0,
    split: Annotated[str, typer.Option(help="of an ICDAR-2015 folder: train or test")] = "test",
    limit: Annotated[int, typer.Option(min=0, help="pictures of each set; 0 takes all")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="figures as JSON", show_default=False)] = None,
    worst: Annotated[int, typer.Option(min=0, help="draw so many of the worst pictures")] = 0,
    worst_dir: Annotated[Path | None, typer.Option(help="into this folder", show_default=False)] = None,
    backend: Backend = "auto",
    precision: Annotated[str, typer.Option(help="auto, or f32 to forbid bf16")] = "auto",
    threads: Threads = 0,
    config_file: ConfigFile = None,
) -> None:
    """Judge detectors by the ICDAR protocol: IoU 0.5, '###' regions count for nothing."""
    from steadyocr.cli.evaluate import EvaluateRun, named_manifests, numbers, raw_manifest, run_evaluation
    from steadyocr.settings import load_settings

    settings, _ = load_settings(config_file=config_file)
    manifests = named_manifests(model or [], settings.data_dir / "models")
    if onnx is not None:
        manifests.append(raw_manifest(onnx, channel_order, mean, std))
    run_evaluation(
        EvaluateRun(
            data=data,
            split=split,
            limit=limit,
            manifests=manifests,
            bin_thresholds=numbers(bin_thresholds, "--bin"),
            box_thresholds=numbers(box_thresholds, "--box"),
            unclip_ratios=numbers(unclip_ratios, "--unclip"),
            max_side=max_side,
            min_side=min_side,
            backend=cast("Any", _one_of(backend, "--backend", ("auto", "openvino", "onnxruntime", "torch"))),
            precision=cast("Any", _one_of(precision, "--precision", ("auto", "f32"))),
            threads=threads,
            json_file=json_file,
            worst=worst,
            worst_dir=worst_dir,
        )
    )


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="checkpoint: ours, ModelScope's, MhLiao-style; model folder or a model's name")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write; its name becomes the model's")],
    kind: Annotated[str, typer.Option("--format", "-f", help="onnx, openvino or int8")] = "onnx",
    name: Annotated[str, typer.Option(help="model name, when it is not the folder's")] = "",
    height: Annotated[int | None, typer.Option(help="fixed input height in pixels", show_default=False)] = None,
    width: Annotated[int | None, typer.Option(help="fixed input width in pixels", show_default=False)] = None,
    fp16_storage: Annotated[bool, typer.Option("--fp16/--fp32", help="how weights are stored in the file")] = True,
    data: Annotated[Path | None, typer.Option(help="labelled pictures: compares H-mean", show_default=False)] = None,
    split: Annotated[str, typer.Option(help="of an ICDAR-2015 folder: train or test")] = "test",
    pictures: Annotated[int, typer.Option(help="at most so many of them; 0 takes all")] = 0,
    calibration: Annotated[Path | None, typer.Option(help="pictures for int8", show_default=False)] = None,
    calibration_pictures: Annotated[int, typer.Option(min=1, help="at most so many of them")] = 64,
    bin_threshold: Annotated[float | None, typer.Option(help="default for the manifest", show_default=False)] = None,
    box_threshold: Annotated[float | None, typer.Option(help="likewise", show_default=False)] = None,
    unclip_ratio: Annotated[float | None, typer.Option(help="likewise", show_default=False)] = None,
    max_side: Annotated[int | None, typer.Option(help="likewise", show_default=False)] = None,
    licence: Annotated[str, typer.Option(help="for the manifest")] = "unstated",
    source: Annotated[str, typer.Option(help="for the manifest")] = "",
    threads: Threads = 0,
    replace: Annotated[bool, typer.Option("--replace", help="overwrite an older export")] = False,
    config_file: ConfigFile = None,
) -> None:
    """Write a checkpoint as ONNX, OpenVINO IR or INT8, with a parity report beside it."""
    need_torch()
    from steadyocr.cli.export import ExportRun, run_export
    from steadyocr.cli.models import weights_at
    from steadyocr.export.onnx import Label
    from steadyocr.settings import load_settings

    weights = weights_at(checkpoint, load_settings(config_file=config_file)[0])
    label = Label(name=name or out.resolve().name, licence=licence, source=source or f"exported from {weights.name}")
    defaults = {
        "bin_threshold": bin_threshold,
        "box_threshold": box_threshold,
        "unclip_ratio": unclip_ratio,
        "max_side": max_side,
    }
    run = ExportRun(
        checkpoint=weights,
        folder=out,
        kind=kind,
        label=label,
        height=height,
        width=width,
        fp16_storage=fp16_storage,
        data=data,
        split=split,
        pictures=pictures,
        calibration=calibration,
        calibration_pictures=calibration_pictures,
        defaults=defaults,
        threads=threads,
        replace=replace,
    )
    run_export(run, typer.echo)


def models_list(config_file: ConfigFile = None) -> None:
    """Print all models; a star marks those in use."""
    from steadyocr.cli.models import print_models

    print_models(config_file)


def models_import(
    checkpoint: Annotated[Path, typer.Argument(help="pytorch_model.pt, a trainer's checkpoint, or one of ours")],
    name: Annotated[str, typer.Option(help="name for the new model")],
    licence: Annotated[str, typer.Option(help="of the weights, for the manifest")] = "unstated",
    data: Annotated[Path | None, typer.Option(help="labelled pictures: compares H-mean", show_default=False)] = None,
    replace: Annotated[bool, typer.Option("--replace", help="overwrite a model of that name")] = False,
    config_file: ConfigFile = None,
) -> None:
    """Turn a ResNet-18 DBNet checkpoint into a model of your own, strictly checked."""
    need_torch()
    from steadyocr.cli.models import import_model

    import_model(checkpoint, name, licence=licence, data=data, replace=replace, config_file=config_file, say=typer.echo)


def models_use(
    name: Annotated[str, typer.Argument(help="model name, see 'steadyocr models list'")],
    config_file: ConfigFile = None,
) -> None:
    """Write a model into the settings file as the one that serves."""
    from steadyocr.cli.models import use_model

    use_model(name, config_file, typer.echo)


def models_verify(config_file: ConfigFile = None) -> None:
    """Check every model's file against the hash in its manifest."""
    from steadyocr.cli.models import verify_models

    raise typer.Exit(verify_models(config_file, typer.echo))


def dataset_check(
    folder: Annotated[Path, typer.Argument(help="ICDAR-2015, images + labels, LabelMe or COCO")],
    fix: Annotated[bool, typer.Option("--fix", help="repair what is safe; first versions are kept as .orig")] = False,
    notes: Annotated[bool, typer.Option(help="show notes too, which need no action")] = True,
) -> None:
    """Report every problem with file and line; exit code 3 when there are errors."""
    from steadyocr.cli.dataset import check

    raise typer.Exit(check(folder, fix=fix, notes=notes, say=typer.echo))


def dataset_split(
    folder: Annotated[Path, typer.Argument(help="labelled pictures, in any layout")],
    out: Annotated[Path, typer.Option("--out", "-o", help="new ICDAR-2015 folder")],
    val: Annotated[float, typer.Option(help="share of the pictures to judge on")] = 0.1,
    seed: Annotated[int, typer.Option(help="same seed, same parts")] = 0,
) -> None:
    """Divide pictures into a training and a validation part, in a new folder."""
    from steadyocr.cli.dataset import split

    split(folder, out, share=val, seed=seed, say=typer.echo)


def need_torch() -> None:
    """Say how to get the training extra instead of failing on an import."""
    import importlib.util

    from steadyocr.errors import BackendUnavailable

    missing = [name for name in ("torch", "onnx", "pyclipper") if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendUnavailable(
            f"this command needs {', '.join(missing)}, which serving does not: pip install 'steadyocr[training]', "
            "or 'make test' once in a checkout"
        )


def _given(context: typer.Context) -> frozenset[str]:
    """Names of the parameters that stood on the command line, as against defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE")


def _one_of(value: str, name: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise typer.BadParameter(f"{name} is one of {', '.join(known)}")
    return value
