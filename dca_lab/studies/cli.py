"""``dca study``: measure the tables of the book again, each with one command.

Only click is imported here; a command imports its study when it runs. What this is *not*: the work itself; each command
calls one function.
"""

from __future__ import annotations

import click


@click.group("study")
def study() -> None:
    """Studies: several techniques on one network, over three seeds, stored with their checksums.

    A study can be stopped (Ctrl-C) and started again: finished parts are kept in the build folder.
    """


@study.command()
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="How many random starts."
)
@click.option(
    "--quick", is_flag=True, help="A tiny run that shows that everything works; stores nothing in data."
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Trainings side by side."
)
@click.option("--fresh", is_flag=True, help="Forget finished parts, as after a change of the code.")
def results(seeds: int, quick: bool, workers: int, fresh: bool) -> None:
    """The document's table: original, pruned, quantized, mixed precision. About half an hour on two cores."""
    from . import results as work

    _run(lambda: work.run(seeds=seeds, quick=quick, workers=workers, fresh=fresh))


@study.command("case-study")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="How many random starts."
)
@click.option(
    "--quick", is_flag=True, help="A tiny run that shows that everything works; stores nothing in data."
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Seeds side by side."
)
@click.option("--fresh", is_flag=True, help="Forget finished parts, as after a change of the code.")
def case_study(seeds: int, quick: bool, workers: int, fresh: bool) -> None:
    """The document's case study: eleven million parameters, every technique in turn. About an hour on two cores."""
    from . import case_study as work

    _run(lambda: work.run(seeds=seeds, quick=quick, workers=workers, fresh=fresh))


@study.command("language-model")
@click.option(
    "--quick", is_flag=True, help="A tiny run that shows that everything works; stores nothing in data."
)
def language_model(quick: bool) -> None:
    """The transformer of the language-model chapter, trained on two novels. A few minutes on one core."""
    from . import language_model as work

    _run(lambda: work.run(quick=quick))


def _run(work) -> None:
    """Run a study; say where its results are, or in one line what is missing."""
    try:
        click.echo(f"stored: {work()}")
    except KeyboardInterrupt:
        click.echo("stopped: run the command again, finished parts are kept", err=True)
        raise SystemExit(130) from None
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise click.ClickException(str(error)) from error
