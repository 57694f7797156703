"""Data sets: what comes out of each kind of file, and one line for each that is not what it should be."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from fastvae.training.batches import Batches, Part, ahead, binarized
from fastvae.training.data import everything, handwritten_digits, open_dataset, resolved
from fastvae.training.data import files as image_files
from fastvae.training.errors import DataError


def idx(array):
    array = np.asarray(array, np.uint8)
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A folder in MNIST's layout, 5 and 3 images of 4x6, the training images gzipped."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 5), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 4, 6))
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(count)))
    plain = tmp_path / "train-images-idx3-ubyte"
    plain.with_suffix(".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    return tmp_path


def pictures(folder, count=12, size=(6, 4), mode="RGB", suffix="png"):
    """Files of `size` (width, height); the arrays in them by name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, arrays = np.random.default_rng(0), {}
    for i in range(count):
        shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
        arrays[f"{i:02}.{suffix}"] = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(arrays[f"{i:02}.{suffix}"]).save(folder / f"{i:02}.{suffix}")
    return arrays


# --- what is read ---


def test_digits_are_split_once_and_scaled():
    first, second = handwritten_digits(), handwritten_digits()
    assert torch.equal(first.train.images, second.train.images)
    assert (len(first.train.images), len(first.test.images)) == (1437, 360)
    for split in (first.train, first.test):
        assert split.images.shape[1:] == first.image_shape == (1, 8, 8)
        assert (split.images.min(), split.images.max()) == (0, 1)
        assert len(split.labels) == len(split.images)
    with pytest.raises(ValueError, match="num_train is 1797"):
        handwritten_digits(1797)


def test_mnist_gzipped_or_not(mnist):
    data = open_dataset(f"mnist:{mnist}")
    rng = np.random.default_rng(0)
    assert data.image_shape == (1, 4, 6)
    for split, count in ((data.train, 5), (data.test, 3)):
        assert split.images.dtype == torch.uint8
        assert torch.equal(split.images[:, 0], torch.from_numpy(rng.integers(0, 256, (count, 4, 6)).astype(np.uint8)))
        assert split.labels.tolist() == list(range(count))


@pytest.mark.parametrize(
    ("shape", "image_shape"), [((20, 4, 6), (1, 4, 6)), ((20, 3, 4, 6), (3, 4, 6)), ((20, 7), (1, 1, 7))]
)
@pytest.mark.parametrize("dtype", ["uint8", "bool", "float64"])
def test_npy_holds_each_row_once(tmp_path, shape, image_shape, dtype):
    values = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    data = open_dataset(f"npy:{tmp_path / 'a.npy'}")
    assert data.image_shape == image_shape
    assert (len(data.train.images), len(data.test.images)) == (18, 2)
    rows = torch.cat([everything(split.images) for split in (data.train, data.test)])
    assert rows.dtype == {"uint8": torch.uint8, "bool": torch.bool, "float64": torch.float32}[dtype]
    assert sorted(rows.flatten(1).float().tolist()) == sorted(values.reshape(20, -1).astype("float32").tolist())


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize("in_memory", [2**30, 0])
def test_image_files_are_decoded(tmp_path, monkeypatch, mode, channels, in_memory):
    monkeypatch.setattr(image_files, "IN_MEMORY", in_memory)
    arrays = pictures(tmp_path, mode=mode)
    data = open_dataset(f"images:{tmp_path}")
    assert data.image_shape == (channels, 4, 6)
    images = torch.cat([everything(split.images) for split in (data.train, data.test)])
    assert images.dtype == torch.uint8
    found = images.permute(0, 2, 3, 1).reshape(12, -1).tolist()
    assert sorted(found) == sorted(array.reshape(-1).tolist() for array in arrays.values())


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_other_formats_and_subfolders_as_classes(tmp_path, suffix):
    for name in ("cats", "dogs"):
        pictures(tmp_path / name, 6, suffix=suffix)
    data = open_dataset(f"images:{tmp_path}")
    assert sorted([*data.train.labels.tolist(), *data.test.labels.tolist()]) == [0] * 6 + [1] * 6


def test_a_name_holds_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolved("npy:a.npy") == f"npy:{tmp_path / 'a.npy'}"
    assert resolved("digits") == "digits"


# --- what is not read ---


def spoiled_mnist(change):
    def spoil(folder):
        change(folder / "t10k-images-idx3-ubyte")

    return spoil


def rewrite(function):
    return spoiled_mnist(lambda path: path.write_bytes(function(path.read_bytes())))


SPOILED = {
    "magic": (rewrite(lambda data: b"\0\0\x0d\3" + data[4:]), "begins with 00000d03"),
    "short": (rewrite(lambda data: data[:-1]), r"87 bytes, where shape \[3, 4, 6\] takes 88"),
    "long": (rewrite(lambda data: data + b"\0"), "89 bytes"),
    "header": (rewrite(lambda data: data[:7]), "7 bytes"),
    "empty": (rewrite(lambda data: b""), "begins with nothing"),
    "negative": (rewrite(lambda data: data[:4] + b"\xff" * 8 + data[12:]), "where shape"),
    "labels": (lambda folder: (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(range(4))), "4 labels for 3 images"),
    "size": (rewrite(lambda data: idx(np.zeros((3, 5, 5)))), r"differ in size, \[4, 6\] and \[5, 5\]"),
    "missing": (spoiled_mnist(lambda path: path.unlink()), "wanted one file of test images-idx3"),
    "twice": (spoiled_mnist(lambda path: path.with_name("t10k-images.idx3-ubyte").write_bytes(b"")), "found t10k"),
    "gzip": (spoiled_mnist(lambda path: path.rename(path.with_suffix(".gz"))), "not a whole gzip file"),
    "torn gzip": (
        lambda folder: (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(999))[:-9]),
        "not a whole gzip file",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_idx(mnist, name):
    spoil, message = SPOILED[name]
    spoil(mnist)
    with pytest.raises(DataError, match=message) as raised:
        open_dataset(f"mnist:{mnist}")
    assert "\n" not in str(raised.value)


def test_wrong_npy(tmp_path):
    path = tmp_path / "a.npy"
    for values, message in (
        (np.zeros((9, 3), int), "int64; wanted uint8"),
        (np.zeros(9), r"shape \[9\]"),
        (np.zeros((1, 3)), r"shape \[1, 3\]"),
        (np.zeros((9, 0)), r"shape \[9, 0\]"),
        (np.array([{}] * 9), "not a whole .npy file"),
    ):
        np.save(path, values)
        with pytest.raises(DataError, match=message):
            open_dataset(f"npy:{path}")
    np.save(path, np.zeros((9, 3)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"not a whole .npy file"):
        open_dataset(f"npy:{path}")
    with path.open("wb") as file:
        np.savez(file, a=np.zeros((9, 3)))
    with pytest.raises(DataError, match="an archive"):
        open_dataset(f"npy:{path}")
    with pytest.raises(FileNotFoundError):
        open_dataset(f"npy:{tmp_path / 'b.npy'}")


def test_wrong_image_folders(tmp_path):
    with pytest.raises(DataError, match="no directory"):
        open_dataset(f"images:{tmp_path / 'none'}")
    with pytest.raises(DataError, match="0 images; wanted two or more"):
        open_dataset(f"images:{tmp_path}")
    pictures(tmp_path)
    pictures(tmp_path / "other", 1, size=(4, 4))
    with pytest.raises(DataError, match=r"other/00.png: 4x4 pixels, where 00.png has 6x4"):
        open_dataset(f"images:{tmp_path}")
    (tmp_path / "other" / "00.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"other/00.png: does not decode: cannot identify"):
        open_dataset(f"images:{tmp_path}")


@pytest.mark.parametrize("in_memory", [2**30, 0])
def test_an_image_that_is_torn_is_named_when_it_is_decoded(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(image_files, "IN_MEMORY", in_memory)
    pictures(tmp_path, size=(64, 64))
    torn = tmp_path / "03.png"
    torn.write_bytes(torn.read_bytes()[:2000])

    def read():
        data = open_dataset(f"images:{tmp_path}")
        for split in (data.train, data.test):
            list(Batches(split.images, 1, 0).steps_from(0, len(split.images)))

    with pytest.raises(DataError, match=r"03.png: does not decode"):
        read()


@pytest.mark.parametrize("name", ["digit", "mnist", "npy:", "images", "zip:a"])
def test_unknown_data(name):
    with pytest.raises(DataError, match="wanted digits, mnist:DIR, npy:FILE or images:DIR"):
        open_dataset(name)


# --- batches ---


def test_an_epoch_has_every_image_once_and_its_own_order():
    batches = Batches(torch.arange(12), 4, seed=0)
    epochs = [torch.cat(list(batches.steps_from(3 * e, 3 * e + 3))) for e in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(12)) for epoch in epochs)
    assert not torch.equal(*epochs)
    assert not torch.equal(torch.cat(list(Batches(torch.arange(12), 4, seed=1).steps_from(0, 3))), epochs[0])


def test_an_incomplete_batch_is_left_out():
    batches = Batches(torch.arange(11), 4, seed=0)
    assert batches.steps == 2
    assert [len(x) for x in batches.steps_from(0, 6)] == [4] * 6


def test_a_step_has_its_batch_whatever_came_before():
    images = torch.rand(12, 5)
    whole = list(Batches(images, 4, 0, binarize=True).steps_from(0, 9))
    for first in (1, 5, 7):
        later = list(Batches(images, 4, 0, binarize=True).steps_from(first, 9))
        assert all(torch.equal(a, b) for a, b in zip(later, whole[first:], strict=True))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_processes_share_the_batch_of_one(dtype):
    images = (torch.rand(12, 5) * (255 if dtype == torch.uint8 else 1)).to(dtype)
    parts = [Batches(images, 6, 0, part=Part(rank, 2), binarize=True) for rank in range(2)]
    for step in range(4):
        whole = Batches(images, 6, 0, binarize=True).at(step)
        assert torch.equal(torch.cat([part.at(step) for part in parts]), whole)


@pytest.mark.parametrize(("x", "probability"), [(torch.tensor(51, dtype=torch.uint8), 0.2), (torch.tensor(0.7), 0.7)])
def test_binarised_pixels_are_one_as_often_as_they_are_bright(x, probability):
    n = 100_000
    ones = binarized(x.expand(n, 1), 3, slice(None), n)
    assert ones.dtype == torch.bool
    # Five standard errors.
    assert abs(ones.double().mean().item() - probability) < 5 * (probability * (1 - probability) / n) ** 0.5
    for edge, value in ((0, False), (255, True)):
        assert (binarized(torch.full((999, 1), edge, dtype=torch.uint8), 3, slice(None), 999) == value).all()


def test_batches_ahead_come_in_order_and_errors_with_them():
    class Slow:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            if 7 in index:
                raise DataError("seven")
            return index

    batches = Batches(Slow(), 1, seed=0)
    before_seven = next(step for step in range(40) if 7 in batches.index(step))
    seen = []
    with pytest.raises(DataError, match="seven"):
        seen.extend(x.item() for x in batches.steps_from(0, 40))
    assert seen == [batches.index(step).item() for step in range(before_seven)]


def test_what_is_prepared_ahead_is_bounded_and_ends_with_its_reader():
    prepared = []
    steps = ahead(lambda step: prepared.append(step) or torch.tensor(step), range(1000))
    assert [next(steps).item() for _ in range(3)] == [0, 1, 2]
    steps.close()
    assert len(prepared) < 20


@pytest.mark.parametrize("batch_size", [0, 41])
def test_batch_size_is_checked_before_work(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
        Batches(torch.rand(40, 16), batch_size, 0)


def test_a_batch_that_processes_cannot_share():
    with pytest.raises(ValueError, match="batch_size is 5; 2 processes cannot share it evenly"):
        Batches(torch.rand(40, 16), 5, 0, part=Part(1, 2))
