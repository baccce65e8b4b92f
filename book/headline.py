"""The picture on the README's first screen, drawn from the stored case study: run by hand after `make case-study`.

    python book/headline.py

What this is *not*: a measurement. Every number is read from ``data/studies/case-study.json``, whose checksum is
compared first; ``tests/test_readme.py`` reads the README's sentence against the same file.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt

from dca_lab import plots
from dca_lab.studies import load
from dca_lab.studies.case_study_seed import EPOCHS_FACTOR

PICTURE = Path(__file__).resolve().parent / "static" / "headline.png"
# (label, network and the way it runs, network whose file and accuracy stand beside the bar): the original's accuracy is
# that of the control, which was trained on with the computing that the pruned networks got after the cut
BARS = (
    ("PyTorch, fp32", "original eager", "control"),
    ("ONNX Runtime, fp32", "original ort", "control"),
    ("half of the parameters", "half ort", "half"),
    ("half, in int8", "half int8", "half-int8"),
    ("a quarter, in int8", "quarter int8", "quarter-int8"),
)


def numbers(study: dict) -> list[dict]:
    """What each bar says: milliseconds of one picture, factor over the first bar, megabytes, accuracy of each seed."""
    timing = study["costs"]["timings"][0]
    found = []
    for label, way, network in BARS:
        seeds = [seed["networks"][network] for seed in study["seeds"]]
        found.append(
            {
                "label": label,
                "milliseconds": timing["milliseconds"][way],
                "faster": timing["over_eager"][way][0],
                "megabytes": seeds[0]["bytes"] / 1e6,
                "accuracies": [seed["accuracy"] for seed in seeds],
            }
        )
    return found


def sentence(study: dict) -> str:
    """What the README says above the picture."""
    networks = [seed["networks"] for seed in study["seeds"]]
    original, longer, small = (
        [n[name] for n in networks] for name in ("control", "control-long", "quarter-int8")
    )
    timing = study["costs"]["timings"][0]
    epochs = {name: factor * study["recipe"]["finetune"] for name, factor in EPOCHS_FACTOR.items()}

    def change(reference: list[dict]) -> str:
        gained = [100 * (s["accuracy"] - r["accuracy"]) for s, r in zip(small, reference, strict=True)]
        return f"{min(gained):+.1f} to {max(gained):+.1f} points"

    return (
        f"A ResNet-18 of {original[0]['parameters'] / 1e6:.1f} million parameters, cut to "
        f"{small[0]['parameters'] / original[0]['parameters']:.0%} of them and run in int8, answers "
        f"**{timing['over_eager']['quarter int8'][0]:.0f} times as fast** as PyTorch runs the original on one core "
        f"({timing['over_ort']['quarter int8'][0]:.0f} times as fast as ONNX Runtime does), from a file "
        f"{original[0]['bytes'] / small[0]['bytes']:.0f} times smaller. Against the original, trained on with the same "
        f"computing ({epochs['control']} epochs, the small network {epochs['quarter']}), its accuracy changed by "
        f"{change(original)} ({len(small)} seeds); against the original with as many epochs, and four times the "
        f"computing, by {change(longer)}."
    )


def draw(bars: list[dict]) -> plt.Figure:
    """One horizontal bar a step, with what it costs written beside it."""
    plots.use_style()
    figure, axis = plt.subplots(figsize=(8.6, 2.9))
    for place, bar in enumerate(bars):
        colour = plots.PALETTE["grey"] if place < 2 else plots.PALETTE["blue"]
        axis.barh(place, bar["milliseconds"], color=colour, height=0.62)
        text = (
            f"{bar['milliseconds']:.2f} ms   {bar['megabytes']:.1f} MB   {mean(bar['accuracies']):.1%} right"
        )
        axis.text(bar["milliseconds"] + 0.06, place, text, va="center", fontsize=10)
    axis.set_yticks(range(len(bars)), [bar["label"] for bar in bars])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.62 * bars[0]["milliseconds"])
    axis.set(xlabel="milliseconds for one picture on one core", title="One network, five ways to run it")
    axis.grid(visible=False)
    return figure


if __name__ == "__main__":
    study = load("case-study")["results"]
    figure = draw(numbers(study))
    figure.savefig(PICTURE, dpi=150, facecolor="white", bbox_inches="tight")
    print(PICTURE, f"{PICTURE.stat().st_size:,} bytes", sentence(study), sep="\n")
