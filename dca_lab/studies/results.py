"""The document's table of results, measured: the parts in order, kept, and stored at the end.

    {torch, keras} x seeds x {shrink, narrow, strided, mixed}   training: two processes side by side
    {torch, keras} x seeds                                      speed and memory: one process, nothing beside it
    torch, seed 0                                               the ladder of networks for the page

The document (section 5.4) reports training 10, 6, 5 and 4 minutes, inference 1, 0.5, 0.3 and 0.2 s, accuracy 98, 97, 96
and 95 % for an original, a pruned, a quantized and a mixed-precision model. Each part is a piece that is kept: kill the
study, run it again, and finished parts are read. Each framework lives in processes of its own. What this is *not*: a
search; the recipe is fixed in `results_recipe`.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from dca_lab.progress import hidden

from .pieces import piece, work_folder
from .results_recipe import FULL, QUICK, Recipe
from .store import save

NAME = "results"
FRAMEWORKS = ("torch", "keras")
TRAINING = ("shrink", "narrow", "strided", "mixed")
ALONE = ("speed", "rungs")
NETWORKS = ("original", "pruned", "quantized", "pruned-quantized")


def run(
    *,
    seeds: int = 3,
    quick: bool = False,
    workers: int = 2,
    progress: bool = True,
    fresh: bool = False,
) -> Path:
    """Run the study, or what is left of it, and store the results.

    Parameters
    ----------
    seeds : int
        At least 1.
    quick : bool
        Small networks, a thousand digits: shows in a minute that everything runs. Its results are not stored with the
        repository, but beside the pieces in the build folder.
    workers : int
        Trainings that run side by side.
    progress : bool
        A bar on a terminal.
    fresh : bool
        Forget the finished parts.

    Returns
    -------
    Path
        Of the JSON file.

    Raises
    ------
    ValueError
        If `seeds` or `workers` is below 1.
    """
    if seeds < 1 or workers < 1:
        raise ValueError(f"seeds={seeds}, workers={workers}: give at least 1 of each")
    recipe = QUICK if quick else FULL
    place = work_folder(f"{NAME}-quick" if quick else NAME)
    training = [(name, part, seed) for seed in range(seeds) for name in FRAMEWORKS for part in TRAINING]
    alone = [(name, "speed", seed) for name in FRAMEWORKS for seed in range(seeds)] + [("torch", "rungs", 0)]
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    bar = tqdm(total=len(training) + len(alone), unit="part", disable=hidden(progress))
    with bar:
        for jobs, side_by_side in ((training, workers), (alone, 1)):
            with ProcessPoolExecutor(
                side_by_side, mp_context=get_context("spawn"), max_tasks_per_child=1
            ) as pool:
                waiting = {pool.submit(_job, *job, recipe, place, fresh): job for job in jobs}
                for done in as_completed(waiting):
                    found[waiting[done]] = done.result()
                    bar.update()
                    bar.set_postfix_str("{} {} seed {}".format(*waiting[done]))
    results: dict[str, Any] = {"recipe": asdict(recipe)}
    results |= {name: [_seed(found, name, seed) for seed in range(seeds)] for name in FRAMEWORKS}
    files = _networks(results, place)
    results["ladder"] = found["torch", "rungs", 0]["rungs"]
    root = place / "stored" if quick else None
    command = f"dca study {NAME} --seeds {seeds}" + (" --quick" if quick else "")
    return save(NAME, results, command=command, seeds=range(seeds), files=files, root=root)


def _job(framework: str, part: str, seed: int, recipe: Recipe, place: Path, fresh: bool) -> dict[str, Any]:
    """One part, in a process of its own, on one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["DCA_QUIET"] = "1"  # the parent draws the bar
    settings = {"part": part, "seed": seed, "recipe": asdict(recipe)}
    if part != "speed":  # what does not concern a training does not make it again
        del settings["recipe"]["repeats"]
    if part not in ("strided", "speed"):
        del settings["recipe"]["strided"]

    def make() -> dict[str, Any]:
        name = f"dca_lab.studies.results_{framework}" + ("_speed" if part in ALONE else "")
        module = import_module(name)  # imports the framework
        if part in ("narrow", "strided", "mixed"):
            return module.scratch(seed, part, recipe, place)
        return getattr(module, part)(seed, recipe, place)

    return piece(place, f"{framework}-{seed}-{part}", make, settings=settings, fresh=fresh)


def _seed(found: dict[tuple[str, str, int], dict[str, Any]], framework: str, seed: int) -> dict[str, Any]:
    """All that was measured on one seed of one framework."""
    parts = [found[framework, part, seed] for part in TRAINING]
    whole = {key: value for part in parts for key, value in part.items() if key != "variants"}
    variants = {name: row for part in parts for name, row in part["variants"].items()}
    return {"seed": seed, "variants": variants, **whole, **found[framework, "speed", seed]}


def _networks(results: dict[str, Any], place: Path) -> list[Path]:
    """Seed 0's files under the names that travel; what they are goes into ``results["networks"]`` and ``["lite"]``."""
    files = []
    for framework, key, ending, prefix in (
        ("torch", "networks", "onnx", ""),
        ("keras", "lite", "tflite", "keras-"),
    ):
        results[key] = []
        for name in NETWORKS:
            target = place / f"{prefix}{name}.{ending}"
            target.write_bytes((place / f"{framework}-0-{name}.{ending}").read_bytes())
            files.append(target)
            measured = results[framework][0]["variants"][name]
            kept = {what: measured[what] for what in ("accuracy", "bytes", "parameters", "macs")}
            results[key].append({"file": f"{prefix}{name}", "name": name, "seed": 0} | kept)
    return files + sorted(place.glob("ladder-*.onnx"))
