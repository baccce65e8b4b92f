"""The ``dca`` command: what this machine is, what data travels with the course, what a model costs here.

    dca info            versions, cores, instruction sets, the measured roofline
    dca data            the shipped data sets, verified against their checksums
    dca measure MODEL   parameters, MACs, bytes, latency, peak memory, share of the roofline
    dca lab ...         the labs: list them, hand them out, test their graders
    dca grade ...       grade a folder of notebooks (both in `grading.cli`)
    dca study ...       measure the tables of the book again (in `studies.cli`)

Each command imports what it needs when it runs, so that ``dca --help`` answers at once. What this is
*not*: a second implementation. Each command prints what a function of the package returns.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from dca_lab import __version__
from dca_lab.grading import cli as grading
from dca_lab.studies import cli as studies

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "safetensors",
    "onnxruntime",
    "tensorflow",
)


main = click.Group(
    "dca",
    help="Measure what deep networks cost on this machine, with the data that travels with the course.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(__version__, prog_name="dca")(main)
main.add_command(grading.lab_group)
main.add_command(grading.grade)
main.add_command(studies.study)


def _rows(title: str, rows: list[tuple[str, str]]) -> None:
    from tabulate import tabulate

    click.echo(title)
    click.echo(tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "left")))


def _rate(value: float | None, unit: str) -> str:
    return "not available in this torch" if value is None else f"{value / 1e9:,.1f} {unit}"


@main.command()
@click.option(
    "--refresh", is_flag=True, help="Measure the roofline again instead of reading the kept result."
)
def info(refresh: bool) -> None:
    """Versions, cores, instruction sets, memory, and the measured roofline of one core."""
    import torch

    from dca_lab import measure

    rows = [("dca_lab", __version__), ("python", platform.python_version())]
    for package in PACKAGES:
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            continue
    _rows("Versions", rows)

    usable, physical = measure.cores()
    total, available = measure.memory_limits()
    cache = measure.last_level_cache()
    rows = [
        ("system", f"{platform.system()} {platform.machine()}"),
        ("processor", measure.cpu_name()),
        ("cores", f"{usable} usable, {physical} physical; torch uses {torch.get_num_threads()} threads"),
        ("instruction sets", ", ".join(measure.instruction_sets()) or "none that is known here"),
        ("torch kernels", torch.backends.cpu.get_cpu_capability()),
        ("last-level cache", f"{cache / 2**20:,.1f} MiB" if cache else "unknown"),
        ("memory", f"{total / 2**30:,.1f} GiB, {available / 2**30:,.1f} GiB available"),
    ]
    _rows("\nMachine", rows)

    try:
        here = measure.machine(refresh=refresh)
    except (OSError, RuntimeError) as error:
        raise click.ClickException(f"the roofline could not be measured: {error}") from error
    size = here.levels[-1][0] / 2**20
    where = "partly from cache" if here.from_cache else "from memory"
    rows = [
        ("peak fp32", _rate(here.peak_flops, "GFLOP/s")),
        ("peak bf16", _rate(here.bf16_flops, "GFLOP/s (matrix product)")),
        ("peak int8", _rate(here.int8_ops, "Gop/s (matrix product, u8 x s8)")),
        ("bandwidth", f"{_rate(here.bandwidth, 'GB/s')} ({where}, arrays of {size:,.0f} MiB)"),
        ("ridge", f"{here.ridge:,.1f} FLOP per byte"),
    ]
    _rows("\nRoofline of one core, measured", rows)


@main.command()
def data() -> None:
    """The shipped data sets: verified against their checksums, with bytes and licences."""
    from tabulate import tabulate

    from dca_lab import data as shipped

    try:
        records = {record.path: record for record in shipped.verify()}
        rows, bad = [], [record for record in records.values() if record.status != "ok"]
        for name in shipped.names():
            files = [records[path] for path in shipped.files(name) if path in records]
            states = {record.status for record in files} or {"missing"}
            whole = states == {"ok"} and len(files) == len(shipped.files(name))
            licence = shipped.load(name).licence if whole else ""
            size = sum(record.bytes for record in files)
            rows.append((name, "ok" if whole else ", ".join(sorted(states)), f"{size:,}", licence))
    except shipped.DataError as error:
        raise click.ClickException(str(error)) from error
    headings, widths = ("data set", "verified", "bytes", "licence"), (None, None, None, 70)
    click.echo(
        tabulate(rows, headers=headings, colalign=("left", "left", "right", "left"), maxcolwidths=widths)
    )
    click.echo(f"\n{len(records)} files, {sum(record.bytes for record in records.values()):,} bytes")
    if bad or not all(row[1] == "ok" for row in rows):
        for record in bad:
            click.echo(f"{record.path} is {record.status}", err=True)
        click.echo("Restore the data folder from the repository: git checkout -- data", err=True)
        raise SystemExit(1)


def _known_model(context: click.Context, parameter: click.Parameter, value: str) -> str:
    from dca_lab import models

    if value not in models.NAMES:
        raise click.BadParameter(f"there is no model {value!r}: choose one of {', '.join(models.NAMES)}")
    return value


def _measurements(name: str, batch: int, repeats: int) -> dict[str, Any]:
    from dca_lab import measure, models

    model, x = models.build(name, seed=0), models.example_input(name, batch)
    timed = measure.latency({name: model}, x, repeats=repeats)
    here = measure.machine()
    return {
        "model": name,
        "batch": batch,
        "parameters": measure.count_parameters(model),
        "macs": measure.count_macs(model, x),
        "bytes": measure.size_on_disk(model),
        "latency": timed.median(name),
        "latency_spread": timed.spread(name),
        "memory": measure.peak_memory(model, x),
        "intensity": measure.arithmetic_intensity(model, x),
        "bound": measure.bound(model, x, here),
        "share_of_bound": measure.share_of_bound(model, x, here, seconds=timed.median(name)),
    }


@main.command("measure")
@click.argument("model", callback=_known_model)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Examples in one pass."
)
@click.option("--repeats", type=click.IntRange(min=1), default=30, show_default=True, help="Timed rounds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def _measure(model: str, batch: int, repeats: int, as_json: bool) -> None:
    """What MODEL costs: one forward pass on one core, freshly initialised weights.

    MODEL is a name such as lenet-5 or resnet-18; a wrong one lists them all.
    """
    from tabulate import tabulate

    try:
        found = _measurements(model, batch, repeats)
    except (RuntimeError, MemoryError) as error:
        first = str(error).splitlines()[0] if str(error) else "out of memory"
        raise click.UsageError(f"{model} with --batch {batch} does not run here: {first}") from error
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        ("parameters", f"{found['parameters']:,}", ""),
        ("multiply-accumulates", f"{found['macs']:,}", ""),
        ("file", f"{found['bytes']:,}", "bytes"),
        ("latency, median", f"{1e3 * found['latency']:,.3f}", "ms CPU"),
        ("latency, middle half", f"{1e3 * found['latency_spread']:,.3f}", "ms wide"),
        ("peak memory", f"{found['memory']:,}", "bytes"),
        ("arithmetic intensity", f"{found['intensity']:,.2f}", "FLOP per byte"),
        ("roofline bound", f"{1e3 * found['bound']:,.3f}", "ms"),
        ("share of the bound", f"{100 * found['share_of_bound']:,.1f}", "%"),
    ]
    click.echo(f"{model}, batch {batch}, one core")
    click.echo(tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "right", "left")))
