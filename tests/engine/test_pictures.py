"""`upscale` takes pictures as people have them, and gives them back in the same form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import srcli
from srcli.errors import NothingToDoError


@pytest.fixture(scope="module")
def upscaler():
    return srcli.Upscaler.from_preset(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def photo():
    rows, cols = np.mgrid[:14, :19]
    return np.stack([rows * 18, cols * 13, (rows * cols) % 256], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def expected(upscaler, photo):
    """(28, 38, 3) in [0, 1], as the tensor interface gives it."""
    lr = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    return upscaler.upscale(lr, 2)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 1)]
)
def test_arrays_come_back_in_their_type(upscaler, photo, expected, dtype, white):
    given = (photo / 255 * white).astype(dtype)
    sr = upscaler.upscale(given, 2)
    assert sr.dtype == dtype
    assert sr.shape == (28, 38, 3)
    np.testing.assert_allclose(sr / white, expected, atol=0.6 / white if white > 1 else 1e-5)


@pytest.mark.parametrize("kind", ["path", "word", "read", "pillow"])
def test_files_and_pil_images(upscaler, photo, expected, tmp_path, kind):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    path = tmp_path / "photo.png"
    makers = {"path": Path, "word": str, "read": srcli.read_image, "pillow": lambda _: Image.fromarray(photo)}
    given = makers[kind](path)
    sr = upscaler.upscale(given, 2)
    assert isinstance(sr, Image.Image if kind == "pillow" else np.ndarray)
    np.testing.assert_allclose(np.asarray(sr) / 255, expected, atol=0.6 / 255)
    assert np.asarray(sr).dtype == np.uint8


def test_a_deep_file_stays_deep(upscaler, photo, expected, tmp_path):
    srcli.write_image(str(tmp_path / "deep.png"), photo.astype(np.uint16) * 257)
    sr = upscaler.upscale(tmp_path / "deep.png", size=(28, 38))
    assert sr.dtype == np.uint16
    np.testing.assert_allclose(sr / 65535, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("mode", "back"),
    [("RGB", "RGB"), ("L", "L"), ("RGBA", "RGBA"), ("LA", "LA"), ("P", "RGB"), ("CMYK", "RGB"), ("1", "RGB")],
)
def test_modes_of_pil(upscaler, photo, mode, back):
    sr = upscaler.upscale(Image.fromarray(photo).convert(mode), 1.5)
    assert (sr.mode, sr.size) == (back, (28, 21))  # 28.5 to even


def test_transparency_is_enlarged_apart(upscaler, photo, expected):
    alpha = np.zeros((14, 19), np.uint8)
    alpha[:, 9:] = 255
    sr = upscaler.upscale(np.dstack([photo, alpha]), 2)
    assert sr.shape == (28, 38, 4)
    assert (sr[:, :14, 3] < 20).all()
    assert (sr[:, 22:, 3] > 235).all()
    # What is bled under transparency reaches far through the default's attention, but faintly.
    assert np.abs(sr[:, 30:, :3] / 255 - expected[:, 30:]).mean() < 0.02


def test_gray_arrays(upscaler, photo):
    gray = photo[..., 0]
    flat = upscaler.upscale(gray, 2)
    assert flat.shape == (28, 38)
    whole = upscaler.upscale(np.dstack([gray] * 3), 2).mean(-1)
    np.testing.assert_allclose(flat, whole, atol=1)
    assert upscaler.upscale(gray[..., None], 2).shape == (28, 38, 1)


def test_a_batch_is_its_pictures(upscaler, photo):
    pictures = np.stack([photo, photo[::-1], photo[:, ::-1]])
    together = upscaler.upscale(pictures, 2)
    np.testing.assert_array_equal(together, np.stack([upscaler.upscale(one, 2) for one in pictures]))
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    bytes_ = upscaler.upscale(tensor, 2)
    assert bytes_.dtype == torch.uint8
    np.testing.assert_array_equal(bytes_.permute(0, 2, 3, 1).numpy(), together)
    assert upscaler.upscale(tensor[0] / 255, 2).shape == (3, 28, 38)


def test_a_tensor_that_asks_for_a_gradient_gets_it(upscaler, photo, expected):
    lr = (torch.from_numpy(photo).permute(2, 0, 1)[None] / 255).requires_grad_()
    sr = upscaler.upscale(lr, 2)
    np.testing.assert_allclose(sr[0].permute(1, 2, 0).detach().numpy(), expected, atol=1e-4)
    sr[..., 10:18, 10:18].mean().backward()
    direction = torch.zeros_like(lr)
    direction[..., 7, 7] = 1e-3
    with torch.no_grad():
        up, down = (upscaler.upscale(lr + sign * direction, 2)[..., 10:18, 10:18].mean() for sign in (1, -1))
    slope = float((up - down) / 2e-3)
    assert float(lr.grad[..., 7, 7].sum()) == pytest.approx(slope, rel=0.05)
    with torch.no_grad():
        assert not upscaler.upscale(lr, 2).requires_grad


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (np.zeros((4, 4, 5)), ValueError),
        (np.zeros((0, 4, 3)), ValueError),
        (np.zeros(4), ValueError),
        (torch.zeros(1, 4, 4, 4), ValueError),
        ([1, 2], TypeError),
        ("none.png", NothingToDoError),
    ],
)
def test_what_is_no_picture_is_refused(upscaler, given, error):
    with pytest.raises(error):
        upscaler.upscale(given, 2)


def test_the_documentation_runs(tmp_path, monkeypatch, photo):
    text = (Path(__file__).parents[2] / "docs/python.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.png")
    Path("photos").mkdir()
    for name in "ab":
        Image.fromarray(photo).resize((42, 28)).save(f"photos/{name}.png")
    names = {}
    for code in text.split("```python\n")[1:]:
        exec(code.partition("```")[0], names)
    assert srcli.read_image("photo_x4.png").size == (56, 76)
    assert srcli.read_image("large.png").size == (60, 82)
    assert srcli.read_image("poster.png").size == (56, 76)
    models = {mean.row.model for mean in names["means"](names["found"].rows)}
    assert models == {"rlfn-native", "bicubic"}


def test_streamed_rows_are_those_of_the_picture(upscaler, photo, expected, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    bands = list(upscaler.stream(tmp_path / "photo.png", 2))
    assert len(bands) > 1 or len(bands[0]) == 28
    np.testing.assert_allclose(np.concatenate(bands), expected, atol=1e-6)
    srcli.write_image(tmp_path / "deep.png", iter(bands), size=(28, 38))
    written = srcli.read_image(tmp_path / "deep.png")
    assert written.pixels.dtype == np.uint16
    np.testing.assert_allclose(written.pixels / 65535, expected, atol=1e-5)
    srcli.write_image(
        tmp_path / "as.png", iter(bands), size=(28, 38), like=srcli.read_image(tmp_path / "photo.png")
    )
    assert srcli.read_image(tmp_path / "as.png").pixels.dtype == np.uint8


@pytest.mark.parametrize("size", [None, (27, 38), (29, 38), (28, 37)])
def test_rows_of_another_size_leave_no_file(upscaler, photo, tmp_path, size):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"size|rows|expected"):
        srcli.write_image(tmp_path / "out.png", upscaler.stream(tmp_path / "photo.png", 2), size=size)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("how", [{}, {"scale": 2, "size": (4, 4)}])
def test_a_stream_wants_a_scale_or_a_size(upscaler, photo, tmp_path, how):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="either"):
        upscaler.stream(tmp_path / "photo.png", **how)
