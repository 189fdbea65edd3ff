"""Pieces that several networks share: MLP, nearest sampling, the bilinear skip, the 3x3 unfold as a convolution."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import EPSILON, I64, SHARP, SIDES, Grid, Size, centres, mirrored

Network = TypeVar("Network", bound=nn.Module)


class AtOnce(NamedTuple):
    """How much is worked on at once: what stays in a CPU's cache, and what keeps another device busy."""

    cpu: int
    other: int

    def on(self, device: torch.device) -> int:
        return self.cpu if device.type == "cpu" else self.other


VECTOR = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 1  # channels of a vector
CHUNK = AtOnce(4096, 1 << 16)  # queries: 4096 times 256 channels in float32 are 4 MiB


class MLP(nn.Module):
    """Linear layers with an activation between them; linears sit at layers.0, layers.2, .. as in LIIF."""

    def __init__(
        self, in_dim: int, hidden: Sequence[int], out_dim: int, activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(in_dim, width), activation()]
            in_dim = width
        self.layers = nn.Sequential(*layers, nn.Linear(in_dim, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    @property
    def linears(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]


def pointwise(in_dim: int, hidden: Sequence[int], out_dim: int) -> nn.Sequential:
    """An MLP of 1x1 convolutions with ReLU between them."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Conv2d(in_dim, width, 1), nn.ReLU()]
        in_dim = width
    return nn.Sequential(*layers, nn.Conv2d(in_dim, out_dim, 1))


def channels_last(network: Network) -> Network:
    """The network with its convolution weights laid out channels last, in place.

    On a CPU those kernels give the same bits whatever the size of the tile.
    """
    untyped: Any = network  # `Module.to(memory_format=...)` is typed differently from one torch to the next
    untyped.to(memory_format=torch.channels_last)
    return network


def tensor(table: np.ndarray | Tensor, like: Tensor) -> Tensor:
    """A NumPy table on the device of `like`; float tables keep float32. Tables of `traced` are tensors already."""
    return (
        table if isinstance(table, Tensor) else torch.from_numpy(np.array(table)).to(like.device)
    )  # a copy: cached tables are read-only


def mirrored_to_multiples(x: Tensor, multiple: int) -> Tensor:
    """A map (B, C, h, w) that goes on mirrored at the bottom and the right, up to sides that are multiples."""
    for dim in (2, 3):
        length = x.shape[dim]
        whole = -(-length // multiple) * multiple
        x = x.index_select(dim, tensor(mirrored(0, whole, length, repeat_edge=False), x))
    return x


def linear(layer: nn.Linear | nn.Conv2d, x: Tensor, *, relu: bool = False) -> Tensor:
    """A linear layer or 1x1 convolution at x (..., in), with its weights in the type of x, and ReLU behind it."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    weight = layer.weight.flatten(1).to(x.dtype)
    small = x.device.type != "cpu" or x.dtype != torch.float32 or x.shape[-1] < 32
    if torch.compiler.is_compiling() or small:
        out = F.linear(x, weight, bias)
        return out.relu_() if relu else out
    # A float32 product goes to MKL, which takes twice as long on AMD's processors as a convolution by oneDNN.
    kernel = weight[:, :, None, None]
    rows = x.numel() // x.shape[-1]
    if torch.is_grad_enabled() or not torch.backends.mkldnn.is_available():
        # Torch gives a 1x1 convolution to oneDNN for 16 images or several threads.
        pixels = x.reshape(16 if rows % 16 == 0 else 1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
        fast = len(pixels) == 16 or torch.get_num_threads() > 1
        out = F.conv2d(pixels, kernel, bias).permute(0, 2, 3, 1) if fast else F.linear(x, weight, bias)
        out = out.relu_() if relu else out
    else:
        pixels = x.reshape(1, 1, rows, x.shape[-1]).permute(0, 3, 1, 2)
        after: tuple[Any, ...] = ("relu" if relu else "none", [], "")
        settings = ([0, 0], [1, 1], [1, 1], 1)  # padding, stride, dilation, groups
        out = torch.ops.mkldnn._convolution_pointwise(pixels, kernel, bias, *settings, *after)
        out = out.permute(0, 2, 3, 1)
    return out.reshape(*x.shape[:-1], -1)


def conv(layer: nn.Conv2d, feat: Tensor) -> Tensor:
    """The convolution of feat (B, C, h, w) with its weights in the type of feat; pixel-major (channels_last)."""
    feat = feat.contiguous(memory_format=torch.channels_last)  # on the CPU: results equal for any tile
    bias = None if layer.bias is None else layer.bias.to(feat.dtype)
    return F.conv2d(feat, layer.weight.to(feat.dtype), bias, padding=layer.padding)


def fused_conv(layer: nn.Conv2d, x: Tensor, slope: float | None = None) -> Tensor:
    """The convolution of x, and leaky ReLU if there is a `slope`, in one pass over memory where oneDNN can.

    torch gives a 1x1 convolution of one image to a slower kernel, and autocast casts, convolves and bends in three passes.
    The result may be a view of more channels.
    """
    precise, on_cpu = not torch.is_autocast_enabled("cpu"), x.device.type == "cpu"
    if torch.is_grad_enabled() or not (on_cpu and torch.backends.mkldnn.is_available()):
        out = layer(x)
        return out if slope is None else F.leaky_relu(out, slope, inplace=True)
    dtype = x.dtype if precise else torch.get_autocast_dtype("cpu")
    weight, bias = layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype)
    wide = dtype == torch.float32 and layer.kernel_size != (1, 1) and len(weight) > VECTOR
    short = -len(weight) % VECTOR if wide else 0
    if short:  # a few channels left over take longer than a vector of them
        weight = F.pad(weight, (0, 0) * 3 + (0, short)).contiguous(memory_format=torch.channels_last)
        bias = None if bias is None else F.pad(bias, (0, short))
    settings = (layer.padding, layer.stride, layer.dilation)
    after = ("none", [], "") if slope is None else ("leaky_relu", [slope], "")
    out = torch.ops.mkldnn._convolution_pointwise(
        x.to(dtype), weight, bias, *map(list, settings), layer.groups, *after
    )
    return out[:, :-short] if short else out


def mix(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """`torch.lerp`, which an export would write as two interpolations and a choice between them."""
    if torch.compiler.is_compiling():
        return start * (1 - share) + end * share  # at both ends exactly that
    return torch.lerp(start, end, share)


def last_linear(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """The layer at x (..., in) in float32, also under autocast: colours deserve their bits."""
    with no_autocast(x):
        return linear(layer, x.float())


def no_autocast(like: Tensor) -> torch.autocast:
    """Inside, what is float32 is computed in float32 on the device of `like`, whatever the caller chose."""
    return torch.autocast(like.device.type, enabled=False)


def row_chunks(height: int, queries_per_row: int, device: torch.device) -> Iterator[slice]:
    """Slices of whole rows, of about `CHUNK` queries."""
    if torch.compiler.is_compiling():
        yield slice(None)
        return
    step = max(1, CHUNK.on(device) // max(1, queries_per_row))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def unfolded_conv(feat: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`Linear(unfold3x3(feat))` as one convolution: feat (B, C, h, w), weight (out, 9C), bias (out,).

    Unfolding with zero padding orders channels as c*9 + ky*3 + kx, which is a convolution weight's own layout.
    """
    kernel = weight.reshape(weight.shape[0], feat.shape[1], 3, 3)
    feat = feat.contiguous(memory_format=torch.channels_last)  # on the CPU: results equal for any tile
    return F.conv2d(feat, kernel.to(feat.dtype), None if bias is None else bias.to(feat.dtype), padding=1)


def grid_coord(grid: Grid, like: Tensor) -> Tensor:
    """Coordinates (1, H*W, 2) of a rectangle of HR pixels, row-major, order (y, x)."""
    rows, cols = tensor(grid.rows.centres, like), tensor(grid.cols.centres, like)
    return torch.stack(torch.meshgrid(rows, cols, indexing="ij"), dim=-1).reshape(1, -1, 2)


class Sample(NamedTuple):
    """Queries beside the LR pixels they read: flat index (B, Q) into h*w, distance (B, Q, 2), one LR pixel = 2."""

    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    distance: Tensor


def pixels_around(coord: Tensor, cell: Tensor, side: int) -> Tensor:
    """Centres (B, Q, side^2, 2) of the square of pixels around those at `coord` (B, Q, 2), of `cell` (B, 2) each."""
    steps = torch.arange(side, device=coord.device) - side // 2
    offset = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).reshape(1, 1, -1, 2)
    return coord.unsqueeze(2) + offset * cell[:, None, None]


def axis_nearest(p: Tensor, size: int) -> Tensor:
    """Index (...) of the pixel of an axis of `size` pixels that is nearest to p (...) in [-1, 1]."""
    # The arithmetic of grid_sample (align_corners=False), so that ties fall as in the published code.
    return torch.round(((p + 1) * size - 1) / 2).long().clamp_(0, size - 1)


def sample_nearest(coord: Tensor, size: Size) -> Sample:
    """Nearest LR pixel of each coord (B, Q, 2) in an LR map of `size`."""
    return sample_at(coord, coord, size)


def sample_neighbours(coord: Tensor, size: Size) -> tuple[list[Sample], Tensor]:
    """The four ensemble neighbours of each coord (B, Q, 2), and their weights (B, Q, 4).

    Order (-1,-1), (-1,+1), (+1,-1), (+1,+1). The weight of a neighbour is the area of the opposite one's
    rectangle over the sum (LIIF, eq. 4).
    """
    samples = []
    for side_y in SIDES:
        for side_x in SIDES:
            shift = coord.new_tensor([side_y / size.h + EPSILON, side_x / size.w + EPSILON])
            samples.append(sample_at((coord + shift).clamp(-1 + EPSILON, 1 - EPSILON), coord, size))
    areas = torch.stack([(s.distance[..., 0] * s.distance[..., 1]).abs() + 1e-9 for s in samples], dim=-1)
    return samples, areas.flip(-1) / areas.sum(-1, keepdim=True)


def sample_at(where: Tensor, coord: Tensor, size: Size) -> Sample:
    """LR pixel nearest to each `where` (B, Q, 2), and how far coord (B, Q, 2) is from that pixel's centre."""
    iy, ix = axis_nearest(where[..., 0], size.h), axis_nearest(where[..., 1], size.w)
    cy, cx = tensor(centres(size.h), coord)[iy], tensor(centres(size.w), coord)[ix]
    distance = (coord - torch.stack([cy, cx], dim=-1)) * coord.new_tensor([size.h, size.w])
    return Sample(iy * size.w + ix, distance)


def gather(maps: Tensor, index: Tensor) -> Tensor:
    """Rows of a map: (B, C, h, w) at flat index (B, Q) -> (B, Q, C)."""
    b, c, h, w = maps.shape
    rows = maps.permute(0, 2, 3, 1).reshape(-1, c)  # free when the map is channels_last
    first = torch.arange(b, device=index.device).unsqueeze(1) * (h * w)
    return F.embedding(first + index, rows)  # an embedding's backward is several times an index's on the CPU


def take(maps: Tensor, rows: I64, cols: I64) -> Tensor:
    """Some rows and columns of a pixel-major map (B, h, w, C), as often as they are named -> (B, H, W, C)."""
    left = int(cols.min())
    near = maps[:, :, left : int(cols.max()) + 1]  # before rows are repeated
    return near.index_select(1, tensor(rows, maps)).index_select(2, tensor(cols - left, maps))


def grouped(index: Tensor) -> tuple[Tensor, int, Tensor]:
    """Queries by the LR pixel they read, ascending: the pixels (g,), the most queries of one, each's place."""
    first, group, counts = torch.unique_consecutive(index, return_inverse=True, return_counts=True)
    most = int(counts.max())
    rank = torch.arange(len(index), device=index.device) - (counts.cumsum(0) - counts)[group]
    return first, most, group * most + rank


def ensemble_weights(grid: Grid, like: Tensor) -> Tensor:
    """Ensemble weights (4, H, W) of a rectangle of HR pixels, in the order of `sample_neighbours`.

    Not factored into rows times columns: where a border pixel is chosen twice at distance 0 the 1e-9 decides.
    """
    dy = tensor(grid.rows.neighbours().distance, like).abs()
    dx = tensor(grid.cols.neighbours().distance, like).abs()
    areas = torch.stack([dy[v, :, None] * dx[u, None, :] + 1e-9 for v in (0, 1) for u in (0, 1)])
    return areas.flip(0) / areas.sum(0)


def mixed(parts: Iterable[Tensor], weights: Tensor) -> Tensor:
    """The sum of parts (B, rows, W, C), one at a time, by their weights (n, rows, W)."""
    total: Tensor | None = None
    for part, weight in zip(parts, weights.unsqueeze(-1), strict=True):
        total = part * weight if total is None else total.addcmul_(part, weight)
    assert total is not None
    return total


def bilinear_at(lr: Tensor, coord: Tensor) -> Tensor:
    """Bilinear skip with border padding: lr (B, 3, h, w) at coord (B, Q, 2) -> (B, Q, 3)."""
    at = coord.flip(-1).unsqueeze(1)
    sampled = F.grid_sample(lr, at, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[:, :, 0].transpose(1, 2)


def bilinear_grid(lr: Tensor, grid: Grid) -> Tensor:
    """Bilinear skip on a rectangle of HR pixels: (B, 3, h, w) -> (B, 3, H, W), one axis after the other."""
    out = lr
    for dim, axis in ((2, grid.rows), (3, grid.cols)):
        low, high, weight = (tensor(t, lr) for t in axis.lerp())
        shape = [1, 1, 1, 1]
        shape[dim] = -1
        below = out.index_select(dim, low)
        out = below + (out.index_select(dim, high) - below) * weight.reshape(shape)
    return out


def bicubic_grid(picture: Tensor, grid: Grid, factor: int) -> Tensor:
    """Antialiased bicubic, axis by axis: (B, C, factor * h, factor * w) of the LR pixels to (B, C, H, W)."""
    out = picture
    for axis in (grid.rows, grid.cols):
        taps: tuple[Any, Any] = axis.bicubic(factor)
        index, weight = taps
        if isinstance(index, Tensor):  # nobody knows yet how many taps there are
            read = out.index_select(2, index.flatten()).unflatten(2, index.shape)
            out = (read * weight.unsqueeze(-1)).sum(3).transpose(2, 3)
            continue
        if index.shape[1] == 1:  # the samples themselves
            out = out.narrow(2, int(index[0, 0]), len(axis)).transpose(2, 3)
            continue
        out = out.contiguous()  # whole rows are copied; columns would be gathered one by one
        total: Tensor | None = None
        for tap in range(index.shape[1]):
            part = out.index_select(2, tensor(index[:, tap], out))
            by = tensor(weight[:, tap], out).reshape(1, 1, -1, 1)
            total = part.mul_(by) if total is None else total.addcmul_(part, by)
        assert total is not None
        out = total.transpose(2, 3)  # the other axis comes next
    return out


def bicubic_at(picture: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """The same at coordinates: picture (B, C, H, W) of the whole image at coord (B, Q, 2) -> (B, Q, C).

    The size of an output pixel, cell (B or 1, 2), stretches the kernel where it is the larger one.
    """
    _batch, _channels, height, width = picture.shape
    sides = coord.new_tensor([height, width])
    stretch = (cell * sides / 2).clamp(min=1).unsqueeze(1)  # (B, 1, 2), in samples
    place = (coord + 1) * sides / 2 - 0.5
    first = torch.ceil(place - 2 * stretch)
    taps = torch.arange(int(4 * stretch.max()) + 1, device=coord.device)
    index = first.unsqueeze(-1) + taps  # (B, Q, 2, taps)
    x, a = ((index - place.unsqueeze(-1)) / stretch.unsqueeze(-1)).abs(), SHARP
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    weight = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    weight = weight / weight.sum(-1, keepdim=True)
    last = (sides - 1).long().unsqueeze(-1)
    index = index.long().clamp(min=0).minimum(last)
    flat = index[..., 0, :, None] * width + index[..., 1, None, :]  # (B, Q, taps, taps)
    read = gather(picture, flat.flatten(1)).unflatten(1, flat.shape[1:])
    mix = weight[..., 0, :, None] * weight[..., 1, None, :]
    return (read * mix.unsqueeze(-1)).sum((2, 3))


def window_pad(lr: Tensor, multiple: int, *, always: bool) -> Tensor:
    """LR (B, C, h, w) continued at the bottom and the right until its sides are multiples of `multiple`.

    The continuation mirrors the image, edge row included. `always`: append a whole window to a side that needs none, as
    the authors of LTE do in their evaluation; published figures of SwinIR presets have it.
    """
    for dim in (-2, -1):
        size = lr.shape[dim]
        padded = (size // multiple + 1) * multiple if always else -(-size // multiple) * multiple
        place = torch.arange(padded, device=lr.device) % (2 * size)
        lr = lr.index_select(dim, torch.minimum(place, 2 * size - 1 - place)) if padded > size else lr
    return lr
