"""A run that was interrupted anyhow ends with the bits of one that was not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import lr_scheduler as schedules
from training_toy import Toy, data, same

from dca_lab.training import CheckpointError, cross_entropy, fit, load_checkpoint, save_checkpoint
from dca_lab.training.resume import digest

X, Y = data()
SETTINGS = {"epochs": 4, "batch_size": 16, "lr": 0.01, "progress": False}


def uninterrupted(**changes):
    model = Toy()
    return model, fit(model, X, Y, **{**SETTINGS, **changes})


class StoppedError(Exception):
    pass


def stop_at(epoch):
    def on_epoch(now, model):
        if now == epoch:
            raise StoppedError

    return on_epoch


@pytest.mark.parametrize("again", ["the same model", "a new model"])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_stopped_by_an_exception_and_resumed(tmp_path, epoch, again):
    path, model = tmp_path / "c.pt", Toy()
    with pytest.raises(StoppedError):
        fit(model, X, Y, **SETTINGS, checkpoint=path, on_epoch=stop_at(epoch), validation=(X, Y))
    if epoch == 1:
        assert not path.exists() and same(model[0], Toy()[0])
    else:
        saved = load_checkpoint(path)
        assert saved["epoch"] == epoch - 1 and saved["step"] == 4 * (epoch - 1)
        assert digest(saved["model"]) == digest(model.state_dict())
    if again == "a new model":
        model = Toy()
    epochs, before = [], torch.get_rng_state()
    history = fit(
        model, X, Y, **SETTINGS, checkpoint=path, validation=(X, Y),
        on_epoch=lambda now, m: epochs.append(now),
    )  # fmt: skip
    reference, expected = uninterrupted(validation=(X, Y))
    assert same(model, reference) and epochs == list(range(epoch, 5))
    assert history.losses == expected.losses and history.accuracies == expected.accuracies
    assert torch.equal(torch.get_rng_state(), before) and os.listdir(tmp_path) == ["c.pt"]


OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adamw": lambda p: AdamW(p, lr=0.01, amsgrad=True),
    "groups": lambda p: Adam([{"params": p[:2], "lr": 0.1}, {"params": p[2:]}], lr=0.01),
}
SCHEDULES = {
    "none": None,
    "one cycle": lambda o, n: schedules.OneCycleLR(o, 0.1, total_steps=n),
    "lambda": lambda o, n: schedules.LambdaLR(o, lambda step: 1 - step / n),
    "steps": lambda o, n: schedules.MultiStepLR(o, [2, 5]),
    "warm-up then cosine": lambda o, n: schedules.SequentialLR(
        o, [schedules.LinearLR(o, total_iters=3), schedules.CosineAnnealingLR(o, n - 3)], [3]
    ),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_and_schedule_resumes_to_the_last_bit(tmp_path, optimizer, schedule):
    choice = {"optimizer": OPTIMIZERS[optimizer], "schedule": SCHEDULES[schedule]}
    with pytest.raises(StoppedError):
        fit(Toy(), X, Y, **SETTINGS, **choice, checkpoint=tmp_path / "c.pt", on_epoch=stop_at(3))
    model = Toy()
    history = fit(model, X, Y, **SETTINGS, **choice, checkpoint=tmp_path / "c.pt")
    reference, expected = uninterrupted(**choice)
    assert same(model, reference) and history.losses == expected.losses


def test_a_checkpoint_changes_nothing_and_a_finished_one_trains_nothing(tmp_path):
    model, history = Toy(), None
    for _ in range(2):  # the second time with the trained model
        history = fit(model, X, Y, **SETTINGS, checkpoint=tmp_path / "c.pt")
    fresh = Toy()
    fit(fresh, X, Y, **SETTINGS, checkpoint=tmp_path / "c.pt", on_step=stop_at(0))
    reference, expected = uninterrupted()
    assert same(model, reference) and same(fresh, reference) and history.losses == expected.losses


def test_more_epochs_go_on_and_fewer_are_refused(tmp_path):
    model = Toy()
    fit(model, X, Y, **{**SETTINGS, "epochs": 2}, checkpoint=tmp_path / "c.pt")
    fit(model, X, Y, **SETTINGS, checkpoint=tmp_path / "c.pt")
    assert same(model, uninterrupted()[0])
    first = Toy()  # the file still knows the weights that the run began with
    fit(first, X, Y, **SETTINGS, checkpoint=tmp_path / "c.pt")
    assert same(first, model)
    with pytest.raises(CheckpointError, match="holds 4 epochs and only 3"):
        fit(model, X, Y, **{**SETTINGS, "epochs": 3}, checkpoint=tmp_path / "c.pt")
    assert same(model, uninterrupted()[0])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("seed", {"seed": 1}),
        ("batch_size", {"batch_size": 15}),
        ("optimizer", {"lr": 0.02}),
        ("optimizer", {"optimizer": OPTIMIZERS["sgd"]}),
        ("schedule", {"schedule": SCHEDULES["steps"]}),
        ("loss", {"loss": nn.functional.cross_entropy}),
        ("data", {"x": X + 1}),
        ("data", {"y": Y.flip(0)}),
        ("validation", {"validation": (X, Y)}),
        ("initial weights", {"model": Toy(seed=1)}),
        ("model", {"model": nn.Linear(6, 3)}),
    ],
)
def test_other_settings_are_refused_by_name_and_the_model_is_untouched(tmp_path, name, change):
    path = tmp_path / "c.pt"
    fit(Toy(), X, Y, **{**SETTINGS, "epochs": 1}, loss=cross_entropy, checkpoint=path)
    arguments = {"model": Toy(), "x": X, "y": Y, **SETTINGS, **change}
    before = digest(arguments["model"].state_dict())
    with pytest.raises(CheckpointError, match=rf"other settings:\n(.*\n)*  {name}: .*(\n.*)*delete .*c.pt"):
        fit(**arguments, checkpoint=path)
    assert digest(arguments["model"].state_dict()) == before


def test_under_a_schedule_the_number_of_epochs_is_a_setting(tmp_path):
    choice = {"schedule": SCHEDULES["lambda"], "checkpoint": tmp_path / "c.pt"}
    fit(Toy(), X, Y, **{**SETTINGS, "epochs": 2}, **choice)
    with pytest.raises(CheckpointError, match="epochs: 2 in the file, 4 now"):
        fit(Toy(), X, Y, **SETTINGS, **choice)


def test_a_damaged_or_foreign_checkpoint_is_not_resumed(tmp_path):
    path = tmp_path / "c.pt"
    fit(Toy(), X, Y, **{**SETTINGS, "epochs": 1}, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated .* delete .*c.pt"):
        fit(Toy(), X, Y, **SETTINGS, checkpoint=path)
    save_checkpoint(path, {"something": "else"})
    with pytest.raises(CheckpointError, match="not written by fit"):
        fit(Toy(), X, Y, **SETTINGS, checkpoint=path)


def test_digest_sees_every_bit_and_name():
    base = {"w": torch.zeros(2), "n": torch.tensor(3), "empty": torch.zeros(0, 2)}
    others = [
        {**base, "w": torch.tensor([0.0, -0.0])},
        {**base, "w": torch.zeros(1, 2)},
        {**base, "w": torch.zeros(2, dtype=torch.bfloat16)},
        {"v": base["w"], "n": base["n"], "empty": base["empty"]},
    ]
    assert digest(base) == digest({k: v.clone() for k, v in base.items()})
    assert len({digest(d) for d in [base, *others]}) == 5


PREPARE = """
import os, resource, signal, sys
from training_toy import Toy, data
from dca_lab.training import fit, load_checkpoint

x, y = data()
path = sys.argv[1]

def run(**hooks):
    return fit(Toy(), x, y, epochs=4, batch_size=16, lr=0.01, progress=False, checkpoint=path, **hooks)

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED = {
    "in a step": "run(on_step=lambda step, model: step == 10 and die())",
    "between writing and renaming": """
def hook(epoch, model):
    if epoch == 3:
        os.replace = die
run(on_epoch=hook)
""",
}
FULL = """
def hook(epoch, model):
    if epoch == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) // 2, resource.RLIM_INFINITY))
try:
    run(on_epoch=hook)
except OSError as error:
    print(error.errno, sorted(os.listdir(os.path.dirname(path))), load_checkpoint(path)["epoch"])
"""


def in_a_process(code: str, path: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "DCA_QUIET": "1"}
    command = [sys.executable, "-c", PREPARE + code, str(path)]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=120)


needs_posix = pytest.mark.skipif(os.name == "nt", reason="SIGKILL and RLIMIT_FSIZE are POSIX")


@needs_posix
@pytest.mark.parametrize("moment", KILLED)
def test_killed_and_resumed(tmp_path, moment):
    path = tmp_path / "c.pt"
    done = in_a_process(KILLED[moment], path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert load_checkpoint(path)["epoch"] == 2
    model = Toy()
    history = fit(model, X, Y, **SETTINGS, checkpoint=path)
    reference, expected = uninterrupted()
    assert same(model, reference) and history.losses == expected.losses
    assert os.listdir(tmp_path) == ["c.pt"]  # what the kill left half-written was overwritten and renamed


@needs_posix
def test_a_full_disk_loses_nothing(tmp_path):
    path = tmp_path / "c.pt"
    done = in_a_process(FULL, path)
    assert done.stdout.split() == ["27", "['c.pt']", "2"], done.stderr  # 27: EFBIG
    model = Toy()
    fit(model, X, Y, **SETTINGS, checkpoint=path)
    assert same(model, uninterrupted()[0])


def test_a_full_disk_sets_the_model_back_so_that_calling_again_resumes(monkeypatch, tmp_path):
    path, model = tmp_path / "c.pt", Toy()

    def fill(epoch, _):
        if epoch == 3:
            monkeypatch.setattr(os, "fsync", no_space)

    def no_space(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fit(model, X, Y, **SETTINGS, checkpoint=path, on_epoch=fill)
    assert os.listdir(tmp_path) == ["c.pt"]
    assert digest(load_checkpoint(path)["model"]) == digest(model.state_dict())
    monkeypatch.undo()
    fit(model, X, Y, **SETTINGS, checkpoint=path)
    assert same(model, uninterrupted()[0])
