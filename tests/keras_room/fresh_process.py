"""What must be said before TensorFlow computes, tried in a process of its own: prints one JSON object.

Run by `test_keras_parallel`; it is a script since a process splits its CPU once.
"""

import json

import dca_lab.keras as room  # isort: skip  (before keras: it silences the import)
import keras
import numpy as np
import tensorflow as tf

FOUND = {}


def difference(mine, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(mine, other, strict=True))


def message(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def each(y, predicted):
    return keras.losses.sparse_categorical_crossentropy(y, predicted, from_logits=True)


def train(devices, sizes, average="global", optimizer=lambda: keras.optimizers.SGD(0.1, momentum=0.9)):
    strategy = room.mirrored(devices)
    with strategy.scope():
        model, optimizer = room.digit_cnn(8), optimizer()
    step = room.train_step(strategy, model, optimizer, each, average=average)
    return [step(X[:size], Y[:size]) for size in sizes], model.get_weights()


def by_hand(sizes):
    """One device, no strategy, Keras' own mean loss: what all of it must equal."""
    model, optimizer = room.digit_cnn(8), keras.optimizers.SGD(0.1, momentum=0.9)
    mean = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for size in sizes:
        gradients = room.gradients(model, mean, X[:size], Y[:size])
        optimizer.apply([tf.constant(g) for g in gradients], model.trainable_variables)
    return model.get_weights()


def fit(devices, examples):
    with room.mirrored(devices).scope():
        model = room.digit_cnn(8)
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X[:examples], Y[:examples], batch_size=64, shuffle=False, verbose=0)
    return model.get_weights()


room.count_memory()
room.use_threads(1)
devices = room.logical_cpus(2)
FOUND["devices"] = [devices, room.logical_cpus(2), [d.name for d in tf.config.list_logical_devices("CPU")]]
FOUND["threads"] = [
    tf.config.threading.get_intra_op_parallelism_threads(),
    tf.config.threading.get_inter_op_parallelism_threads(),
]
rng = np.random.default_rng(0)
X, Y = rng.random((128, 28, 28, 1), np.float32), rng.integers(0, 10, 128)

SIZES = [64, 64, 63]
reference = by_hand(SIZES)
losses, two = train(devices, SIZES)
one_losses, one = train(devices[:1], SIZES)
FOUND["one device"] = difference(one, reference)
FOUND["two devices"] = difference(two, reference)
FOUND["losses"] = [losses, one_losses]
FOUND["moved"] = difference(reference, room.digit_cnn(8).get_weights())

plain = lambda rate: lambda: keras.optimizers.SGD(rate)  # noqa: E731
start = room.digit_cnn(8).get_weights()
right_loss, right = train(devices, [64], optimizer=plain(0.1))
wrong_loss, wrong = train(devices, [64], average="replica", optimizer=plain(0.1))
_, halved = train(devices, [64], average="replica", optimizer=plain(0.05))


def moved(weights):
    return [after - before for after, before in zip(weights, start, strict=True)]


FOUND["wrong, twice as far"] = difference(moved(wrong), [2 * step for step in moved(right)])
FOUND["wrong at half the rate"] = difference(halved, right)
FOUND["wrong"] = difference(wrong, right)
FOUND["reported"] = [right_loss, wrong_loss]

FOUND["fit, even"] = difference(fit(devices, 128), fit(devices[:1], 128))
FOUND["fit, a last batch of three"] = difference(fit(devices, 67), fit(devices[:1], 67))

FOUND["peak"] = [room.peak_bytes(lambda count=count: tf.ones(count) + 1.0) for count in (1 << 18, 1 << 22)]
peaks = []
for policy in ("float32", "mixed_bfloat16"):
    with room.use_policy(policy):
        model = room.digit_cnn(32)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    activations = sum(room.activation_bytes(model, X).values())
    peaks.append([room.peak_bytes(lambda model=model: model.train_on_batch(X, Y)), activations])
FOUND["peaks"] = peaks

strategy, small = room.mirrored(devices), np.zeros((1, 28, 28, 1), np.float32)
with strategy.scope():
    model = room.digit_cnn(2)
    shapeless = keras.Sequential([keras.layers.Dense(3)])
sgd = keras.optimizers.SGD(0.1)
mean = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
FOUND["errors"] = {
    "logical_cpus": message(lambda: room.logical_cpus(3)),
    "use_threads": message(lambda: room.use_threads(2)),
    "again": message(lambda: room.use_threads(1)),
    "mirrored": message(lambda: room.mirrored(["CPU:7"])),
    "average": message(lambda: room.train_step(strategy, model, sgd, each, average="both")),
    "unbuilt": message(lambda: room.train_step(strategy, shapeless, sgd, each)),
    "small": message(lambda: room.train_step(strategy, model, sgd, each)(small, np.zeros(1, int))),
    "mean": message(lambda: room.train_step(strategy, model, keras.optimizers.SGD(), mean)(X, Y)),
}
print(json.dumps(FOUND))
