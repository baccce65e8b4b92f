"""Data parallel training against training.fit in this process, against DDP, and against shares taken one by one."""

import math

import parallel_functions
import pytest
import torch
from torch.nn import functional as F

from dca_lab.models import build
from dca_lab.parallel import DataParallelRun, launch, ring_bytes, train_data_parallel
from dca_lab.parallel._replica import Momentum, Task, batches
from dca_lab.training import fit

# A started process imports torch: seconds of work, and minutes on a machine that is busy with other things.
pytestmark = pytest.mark.timeout(900)

N, BATCH, EPOCHS, LR, MOMENTUM, SEED = (
    50,
    16,
    2,
    0.05,
    0.9,
    3,
)  # 50 = 3 * 16 + 2: shares are unequal at the end
STEPS = EPOCHS * math.ceil(N / BATCH)
DIGIT = {"filters": 4}


def examples(count=N):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, 28, 28, generator=generator), torch.randint(10, (count,), generator=generator)


def task(model, options, **changes):
    x, y = examples()
    settings = dict(
        steps=STEPS, batch_size=BATCH, shares=2, lr=LR, momentum=MOMENTUM, seed=SEED, backend="ours"
    )
    return Task(model, options, x, y, **{**settings, **changes}, progress=False)


def alone(name, **options):
    """The same training in this process, on whole batches, by another loop and torch's optimizer."""
    model = build(name, seed=SEED, **options)
    settings = dict(epochs=EPOCHS, batch_size=BATCH, seed=SEED, progress=False)
    history = fit(
        model, *examples(), **settings, optimizer=lambda w: torch.optim.SGD(w, lr=LR, momentum=MOMENTUM)
    )
    return model, history


def distance(state, model):
    """Relative distance of all weights."""
    wanted = dict(model.named_parameters())
    apart = torch.cat([(state[name] - wanted[name]).flatten() for name in wanted])
    return (apart.norm() / torch.cat([weight.flatten() for weight in wanted.values()]).norm()).item()


def test_two_processes():
    """Several trainings and one start, which takes longer than all of them."""
    tasks = {
        "ours": task("digit-cnn", DIGIT),
        "ddp": task("digit-cnn", DIGIT, backend="ddp"),
        "batch-norm": task("resnet-18", {"width": 2, "stem_stride": 2}, steps=2),
        "batch-norm, ddp": task("resnet-18", {"width": 2, "stem_stride": 2}, steps=2, backend="ddp"),
        "four shares": task("digit-cnn", DIGIT, shares=4, batch_size=25),
        "frozen": task(frozen(), {}, steps=2),
        "dropout": task(dropping(), {}, steps=1),
    }
    both = launch(parallel_functions.train_all, 2, list(tasks.values()), timeout=400)
    answers = dict(zip(tasks, zip(*both, strict=True), strict=True))
    two_processes_and_ddp_train_what_one_process_trains_on_whole_batches(answers)
    seconds_and_bytes_are_those_of_each_process(answers)
    batch_norm_sees_its_share_so_two_processes_train_another_network(answers)
    each_process_may_compute_several_shares_one_after_another(answers)
    frozen_weights_stay_and_are_not_sent(answers)
    dropout_draws_anew_in_each_process(answers)
    one_process_with_two_shares_trains_the_bits_of_two_processes(answers)


def frozen():
    """A module, not a name; its convolution is not trained, and one weight gets no gradient."""
    model = build("digit-cnn", seed=SEED, **DIGIT)
    model.conv.requires_grad_(False)
    model.unused = torch.nn.Parameter(torch.ones(3))
    return model


def dropping():
    """A module with dropout; all weights zero, so that no other random numbers are in play."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(784, 10))
    torch.nn.init.zeros_(model[2].weight)
    torch.nn.init.zeros_(model[2].bias)
    return model


def two_processes_and_ddp_train_what_one_process_trains_on_whole_batches(answers):
    model, history = alone("digit-cnn", **DIGIT)
    assert (
        distance(build("digit-cnn", seed=SEED, **DIGIT).state_dict(), model) > 0.01
    )  # there was something to learn
    for backend in ("ours", "ddp"):
        first, second = answers[backend]
        assert distance(first.state, model) < 1e-6
        assert first.digest == second.digest  # the very same bits in both
        losses = [sum(parts) for parts in zip(first.losses, second.losses, strict=True)]
        assert losses == pytest.approx(history.losses, rel=1e-5)


def seconds_and_bytes_are_those_of_each_process(answers):
    numbers = sum(weight.numel() for weight in build("digit-cnn", **DIGIT).parameters())
    for backend in ("ours", "ddp"):
        for process in answers[backend]:
            assert process.seconds_computing > 0
            assert process.seconds_communicating > 0
    assert sum(process.bytes_sent for process in answers["ours"]) == 2 * STEPS * ring_bytes(numbers, 2)
    assert [process.bytes_sent for process in answers["ddp"]] == [None, None]


def batch_norm_sees_its_share_so_two_processes_train_another_network(answers):
    settings = dict(width=2, stem_stride=2)
    x, y = examples()
    by_shares, whole = (build("resnet-18", seed=SEED, **settings) for _ in range(2))
    for model, shares in ((by_shares, 2), (whole, 1)):
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
        for batch in batches(N, BATCH, steps=2, seed=SEED):
            optimizer.zero_grad()
            for share in batch.tensor_split(shares):
                (F.cross_entropy(model(x[share]), y[share]) * len(share) / len(batch)).backward()
            optimizer.step()
    for backend in ("batch-norm", "batch-norm, ddp"):
        first, second = answers[backend]
        assert first.digest == second.digest
        assert distance(first.state, by_shares) < 1e-6
        assert distance(first.state, whole) > 1e-3


def each_process_may_compute_several_shares_one_after_another(answers):
    first, second = answers["four shares"]
    model = build("digit-cnn", seed=SEED, **DIGIT)
    settings = dict(epochs=4, batch_size=25, seed=SEED, progress=False)
    fit(model, *examples(), **settings, optimizer=lambda w: torch.optim.SGD(w, lr=LR, momentum=MOMENTUM))
    assert distance(first.state, model) < 1e-6


def frozen_weights_stay_and_are_not_sent(answers):
    first, second = answers["frozen"]
    before, numbers = frozen().state_dict(), 4 * 13 * 13 * 10 + 10 + 3
    assert torch.equal(first.state["conv.weight"], before["conv.weight"])
    assert torch.equal(first.state["unused"], before["unused"])
    assert not torch.equal(first.state["fc.weight"], before["fc.weight"])
    assert first.bytes_sent + second.bytes_sent == 2 * 2 * ring_bytes(numbers, 2)


def dropout_draws_anew_in_each_process(answers):
    model, (x, y) = dropping(), examples()
    batch = next(batches(N, BATCH, steps=1, seed=SEED))
    with torch.random.fork_rng(devices=[]):
        for rank, share in enumerate(batch.tensor_split(2)):
            torch.manual_seed(SEED + rank)
            (F.cross_entropy(model(x[share]), y[share]) * len(share) / len(batch)).backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight -= LR * weight.grad
    assert distance(answers["dropout"][0].state, model) < 1e-6


def test_three_processes_started_by_the_public_call():
    x, y = examples(100)
    run = train_data_parallel(
        "digit-cnn",
        x[:51],  # a slice: only its part of the memory may travel; 51 = 3 * 16 + 3
        y[:51],
        world_size=3,
        epochs=EPOCHS,
        batch_size=BATCH,
        lr=LR,
        momentum=MOMENTUM,
        seed=SEED,
        options=DIGIT,
        timeout=400,
    )
    model = build("digit-cnn", seed=SEED, **DIGIT)
    settings = dict(epochs=EPOCHS, batch_size=BATCH, seed=SEED, progress=False)
    optimizer = lambda w: torch.optim.SGD(w, lr=LR, momentum=MOMENTUM)  # noqa: E731
    history = fit(model, x[:51], y[:51], **settings, optimizer=optimizer)
    assert distance(run.state, model) < 1e-6
    assert run.losses == pytest.approx(history.losses, rel=1e-5)
    numbers = sum(weight.numel() for weight in model.parameters())
    assert run.bytes_sent == pytest.approx(STEPS * ring_bytes(numbers, 3), rel=1e-12)
    assert run.seconds == run.seconds_computing + run.seconds_communicating
    assert 0 < run.share_communicating < 1
    model.load_state_dict(run.state)  # all of it, under the names of the model


def one_process_with_two_shares_trains_the_bits_of_two_processes(answers):
    settings = dict(epochs=EPOCHS, batch_size=BATCH, lr=LR, momentum=MOMENTUM, seed=SEED, options=DIGIT)
    run = train_data_parallel("digit-cnn", *examples(), world_size=1, shares=2, **settings, timeout=400)
    first, _ = answers["ours"]
    assert run.bytes_sent == 0
    assert all(torch.equal(run.state[name], first.state[name]) for name in first.state)


def test_batches_are_those_of_fit_in_every_epoch():
    generator = torch.Generator().manual_seed(5)
    wanted = [batch for _ in range(3) for batch in torch.randperm(10, generator=generator).split(4)]
    ours = list(batches(10, 4, steps=8, seed=5))
    assert len(ours) == 8
    assert all(torch.equal(*pair) for pair in zip(ours, wanted[:8], strict=True))


def test_the_optimizer_is_torchs_to_the_last_bit():
    ours, theirs = (torch.nn.Linear(3, 2) for _ in range(2))
    ours.load_state_dict(theirs.state_dict())
    mine, oracle = (
        Momentum(ours, lr=0.1, momentum=0.9),
        torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9),
    )
    for x in torch.randn(4, 5, 3):
        for model, update in ((ours, mine), (theirs, oracle)):
            model.zero_grad()
            model(x).square().sum().backward()
            update.step()
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "vgg"}, "no model 'vgg': choose one of lenet-300-100"),
        ({"name": torch.nn.Linear(1, 1), "options": {"width": 2}}, "has been built and no options"),
        ({"name": 3}, "give a model's name"),
        ({"world_size": 0}, "world_size=0: give at least 1"),
        ({"backend": "mpi"}, "backend='mpi': choose one of ours, ddp"),
        ({"steps": None}, "epochs=None and steps=None: give exactly one"),
        ({"epochs": 1}, "give exactly one"),
        ({"steps": 0}, "nothing to train"),
        ({"batch_size": 1}, "batch_size=1 is smaller than 2 shares"),
        ({"batch_size": 49}, "the last batch of an epoch has 1 examples, fewer than 2 shares"),
        ({"shares": 3}, "shares=3: give a multiple of world_size=2"),
        ({"shares": 4, "backend": "ddp"}, "takes one share a process"),
        ({"y": torch.zeros(3)}, "equally many examples"),
        ({"x": torch.zeros(0, 1, 28, 28), "y": torch.zeros(0)}, "at least one"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_starts(changes, said):
    x, y = examples()
    settings = {"name": "digit-cnn", "x": x, "y": y, "world_size": 2, "steps": 1, "batch_size": 16, **changes}
    with pytest.raises(ValueError, match=said):
        train_data_parallel(settings.pop("name"), settings.pop("x"), settings.pop("y"), **settings)


def test_a_run_knows_its_share_of_messages():
    run = DataParallelRun({}, [], seconds_computing=1.0, seconds_communicating=3.0, bytes_sent=8.0)
    assert (run.seconds, run.share_communicating) == (4.0, 0.75)
