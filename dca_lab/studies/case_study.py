"""The document's case study, measured: an image classifier of 11.2 million parameters, every technique in turn.

    train -> cut to half (and to a quarter) of the parameters -> fine-tune -> int8, three seeds, with controls

and beside it what each step brings alone and together in seconds and bytes (`case_study_speed`), in which order
(`case_study_order`), and what half precision and several processes do for the training (`case_study_training`). The
document reports half the parameters, 30 % more speed and the same accuracy. Seeds run side by side, a process each;
every piece is kept, so a study that was killed goes on; the result is stored for the chapter `case-study`. It is *not* a
search: the recipe is fixed in `case_study_recipe`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from dca_lab.deploy import Session

from . import case_study_order, case_study_speed, case_study_training
from .case_study_recipe import Recipe, train
from .case_study_seed import Seed, study_seed
from .pieces import piece, work_folder
from .store import save

NAME = "case-study"
QUICK = Recipe(width=8, epochs=1, finetune=1, train=400, test=200, calibration=64, repeats=8)
ORDER_BITS = (8, 4)
STORED = "quarter-int8"  # the network that travels with the repository


def run(
    *, seeds: int = 3, quick: bool = False, workers: int = 2, progress: bool = True, fresh: bool = False
) -> Path:
    """Run the study, or what is left of it, and store the results (unless `quick`).

    Parameters
    ----------
    seeds : int
        At least 1.
    quick : bool
        A tiny network on a few hundred images: shows in a minute that everything runs. Its numbers are not stored
        with the repository, but beside the pieces in the build folder.
    workers : int
        Seeds that run side by side.
    progress : bool
        Bars of the trainings, on a terminal.
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
    recipe = QUICK if quick else Recipe()
    place = folder_of(recipe)
    if fresh:
        shutil.rmtree(place)
        place.mkdir()
    results, file = measure_all(recipe, place, seeds=seeds, workers=workers, progress=progress)
    root = place / "stored" if quick else None
    command = f"dca study {NAME} --seeds {seeds}" + (" --quick" if quick else "")
    return save(NAME, results, command=command, seeds=list(range(seeds)), files=[file], root=root)


def folder_of(recipe: Recipe) -> Path:
    """Where the pieces of a recipe are kept: another recipe has another folder.

    Examples
    --------
    >>> folder_of(QUICK) == folder_of(Recipe())
    False
    """
    digest = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()[:8]
    return work_folder(f"{NAME}-{digest}")


def measure_all(
    recipe: Recipe, place: Path, *, seeds: int, workers: int = 1, progress: bool = True
) -> tuple[dict[str, Any], Path]:
    """All results, and the network file that is stored with them."""
    jobs = [(_one_seed, seed, recipe, place, progress) for seed in range(seeds)]
    jobs.append((_other_precision, 0, recipe, place, progress))
    if workers == 1:
        *found, _ = map(_job, jobs)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            *found, _ = pool.map(_job, jobs)
    torch.set_num_threads(1)
    study = Seed(0, recipe, place / "seed-0", progress=progress)
    settings = asdict(recipe)
    costs = piece(place, "costs", lambda: _costs(study), settings=settings)
    training = piece(place, "training", lambda: case_study_training.half_precision(study), settings=settings)
    several = piece(place, "parallel", lambda: case_study_training.two_processes(study), settings=settings)
    stored = piece(
        place, "stored", lambda: _stored(study, place), settings=settings, files=(f"{NAME}-{STORED}.onnx",)
    )
    results = {
        "recipe": settings,
        "bf16": recipe.half,
        "seeds": found,
        "costs": costs,
        "half_precision": training,
        "parallel": several,
        "stored": stored,
    }
    return results, place / stored["file"]


def _job(job: tuple[Callable[[Seed], Any], int, Recipe, Path, bool]) -> Any:
    """One job of the pool, on one thread: timings are comparable, and two jobs share two cores."""
    work, seed, recipe, place, progress = job
    torch.set_num_threads(1)
    return work(Seed(seed, recipe, place / f"seed-{seed}", progress=progress))


def _one_seed(study: Seed) -> dict[str, Any]:
    found = study_seed(study)
    settings = asdict(study.recipe) | {"bits": list(ORDER_BITS)}
    found["order"] = piece(study.folder, "order", lambda: _order(study), settings=settings)
    return found


def _other_precision(study: Seed) -> None:
    case_study_training.other_precision(study)


def _order(study: Seed) -> dict[str, dict[str, float]]:
    recipe = study.recipe

    def tune(network: torch.nn.Module) -> None:
        options = {"epochs": recipe.order_epochs, "lr": recipe.finetune_lr, "recipe": recipe}
        x, y = study.x[: recipe.order_train], study.y[: recipe.order_train]
        train(network, x, y, seed=1000 * study.seed + 500, progress=study.progress, **options)

    test, some = (study.x_test, study.y_test), study.x[:2000]
    return case_study_order.compare_orders(study.original(), tune, some, test, bits=ORDER_BITS)


def _costs(study: Seed) -> dict[str, Any]:
    networks: Mapping[str, torch.nn.Module] = {
        "original": study.original(),
        "half": study.pruned("half"),
        "quarter": study.pruned("quarter"),
    }
    files = {n: {"ort": study.file(n), "int8": study.file(f"{n}-int8")} for n in networks}
    subjects = {
        name: {"eager": network} | {way: Session(file) for way, file in files[name].items()}
        for name, network in networks.items()
    }
    repeats = study.recipe.repeats
    timings = [
        case_study_speed.time_networks(subjects, batch=batch, repeats=rounds, seed=i)
        for i, (batch, rounds) in enumerate(
            [(1, repeats), (1, repeats), (1, repeats), (64, max(6, repeats // 4))]
        )
    ]
    memory = {name: case_study_speed.memory(network, files[name]) for name, network in networks.items()}
    return {"timings": timings, "memory": memory}


def _stored(study: Seed, place: Path) -> dict[str, Any]:
    """The smallest network of seed 0 under its name in the repository, with what it must give."""
    source = study.file(STORED)
    target = place / f"{NAME}-{STORED}.onnx"
    target.write_bytes(source.read_bytes())
    answers = Session(target)(study.x_test).argmax(1)
    right = int((answers == study.y_test).sum())
    return {"file": target.name, "seed": study.seed, "right": right, "images": len(study.y_test)}
