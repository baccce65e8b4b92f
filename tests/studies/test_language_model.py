"""The stored language model: its file is what its training gives, and the chapter's numbers are those of the file."""

import math

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

from dca_lab import cli, measure
from dca_lab.studies import language_model, load, network, store
from dca_lab.training.perplexity import perplexity


@pytest.fixture(scope="module")
def stored():
    return load("language-model")["results"]


def test_the_stored_weights_have_the_stored_size_and_perplexity(stored):
    model = language_model.trained()
    _, _, x, y = language_model.text()
    assert perplexity(model, x, y) == pytest.approx(stored["perplexity"], rel=1e-3)
    assert measure.count_parameters(model) == stored["parameters"]
    assert network(language_model.FILE).stat().st_size == stored["bytes"]
    # an oracle that shares nothing with `perplexity`
    with torch.no_grad():
        odds = torch.log_softmax(model(x[:8]).double(), -1).gather(2, y[:8, :, None])
    assert perplexity(model, x[:8], y[:8]) == pytest.approx(math.exp(-float(odds.mean())), rel=1e-4)


def test_a_short_training_repeats_what_was_stored(stored):
    # other kernels add in another order: over 20 steps that moves the perplexity by far less than two percent
    assert language_model.overture() == pytest.approx(stored["overture"], rel=0.02)
    assert stored["perplexity"] < stored["overture"] / 2


def test_the_model_never_reads_ahead():
    model, (x, _, _, _) = language_model.trained(), language_model.text()
    changed = x[:1].clone()
    changed[:, 64:] = (changed[:, 64:] + 1) % len(language_model.data.load("austen").classes)
    with torch.no_grad():
        before, after = model(x[:1]), model(changed)
    torch.testing.assert_close(before[:, :64], after[:, :64])
    assert not torch.allclose(before[:, 64:], after[:, 64:])


def test_the_rate_rises_and_then_falls_to_nothing():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    schedule = language_model.warm_cosine(optimizer, 400)
    rates = []
    for _ in range(400):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    peak = rates.index(max(rates))
    assert rates[0] == pytest.approx(0.01) and 90 <= peak <= 100
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-3


def test_what_is_held_out_was_not_read():
    assert not set(map(tuple, language_model.text()[0][:50].tolist())) & set(
        map(tuple, language_model.text()[2][:50].tolist())
    )


def test_the_command_stores_a_model_that_is_found_again(monkeypatch, tmp_path):
    monkeypatch.setattr(language_model, "work_folder", lambda name: tmp_path)
    shown = CliRunner().invoke(cli.main, ["study", "language-model", "--quick"])
    assert shown.exit_code == 0, shown.output
    root = tmp_path / "stored"
    found = store.load("language-model", root=root)
    assert found["command"] == "dca study language-model --quick"
    weights = load_file(store.network(language_model.FILE, root=root))
    assert weights.keys() == language_model.untrained().state_dict().keys()
