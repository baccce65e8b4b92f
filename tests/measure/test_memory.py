"""Peak bytes against sums that can be done by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab import models
from dca_lab.measure import peak_memory


@settings(deadline=None, max_examples=20)
@given(widths=st.lists(st.integers(8, 200), min_size=2, max_size=6), batch=st.integers(2, 9))
def test_a_chain_of_linear_layers_needs_its_two_largest_neighbours(widths, batch):
    layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    made = [0, *widths[1:]]  # the input was there before
    pairs = [a + b for a, b in zip(made, made[1:], strict=False)]
    assert peak_memory(nn.Sequential(*layers), torch.zeros(batch, widths[0])) == 4 * batch * max(pairs)


def test_a_skip_connection_holds_its_tensor():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Linear(50, 50), nn.Linear(50, 50), nn.Linear(50, 50)

        def forward(self, x):
            kept = self.first(x)
            y = self.second(kept)
            y = self.third(y)
            return kept + y

    # at the third layer and at the sum: the kept tensor, the input and the output of the operation
    assert peak_memory(Skip(), torch.zeros(6, 50)) == 3 * 6 * 50 * 4


def test_temporary_tensors_inside_a_function_count_and_views_do_not():
    class Wide(nn.Module):
        def forward(self, x):
            return x.repeat(10, 1).sum(0)

    class View(nn.Module):
        def forward(self, x):
            return x.view(-1).reshape(2, -1).T

    assert peak_memory(Wide(), torch.zeros(8, 100)) == 10 * 8 * 100 * 4 + 100 * 4
    assert peak_memory(View(), torch.zeros(8, 100)) == 0


def test_in_place_layers_save_a_tensor():
    def model(inplace):
        return nn.Sequential(nn.Linear(64, 256), nn.ReLU(inplace=inplace), nn.Linear(256, 8))

    x = torch.zeros(4, 64)
    assert peak_memory(model(False), x) == 4 * 4 * 512
    assert peak_memory(model(True), x) == 4 * 4 * (256 + 8)


@pytest.mark.parametrize("name", ["lenet-5", "gru", "transformer-lm"])
def test_the_figure_is_the_same_each_time_and_holds_the_largest_activation(name):
    model, x = models.build(name, seed=0), models.example_input(name, 4)
    largest = []
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output: largest.append(output.nbytes if torch.is_tensor(output) else 0)
        )
        for module in model.modules()
    ]
    model.eval()(x)
    for handle in handles:
        handle.remove()
    first = peak_memory(model, x)
    assert first == peak_memory(model, x)
    assert first >= max(largest)


def test_what_is_made_once_is_not_part_of_every_pass():
    class Caches(nn.Module):
        table = None

        def forward(self, x):
            if self.table is None:
                self.table = torch.ones(1000, 1000)
            return x + self.table[0, 0]

    assert peak_memory(Caches(), torch.zeros(10, 10)) == 400


def test_modes_and_threads_are_restored_and_nothing_is_printed(capfd):
    model = nn.Sequential(nn.Dropout(), nn.Linear(4, 4)).train()
    threads = torch.get_num_threads()
    peak_memory(model, torch.zeros(2, 4))
    assert model.training and model[0].training
    assert torch.get_num_threads() == threads
    assert capfd.readouterr() == ("", "")


def test_what_is_not_a_module_is_refused():
    with pytest.raises(ValueError, match="torch.nn.Module"):
        peak_memory(torch.relu, torch.zeros(2))
