"""The state of a run (network, optimiser, averaged weights, position), and how one step changes it."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srcli.config.presets import Preset
from srcli.data.samples import Batch
from srcli.engine.device import DTYPES, Precision, choose_precision
from srcli.errors import PresetError, ResourceError, WeightsError
from srcli.models.decoders.lit import STAGE
from srcli.models.layers import channels_last
from srcli.models.sr import ImplicitSR
from srcli.processes import Ranks
from srcli.resources import free_memory, in_words
from srcli.train.losses import Objective, TrainingLoss
from srcli.train.objectives import make_objective
from srcli.train.recipe import OptimSettings, Recipe
from srcli.weights.build import build
from srcli.weights.checkpoint import load_into, own_state

COMPILE = {"default": "default", "graph": "reduce-overhead"}  # the latter captures CUDA graphs


class Trainer:
    """Network, optimiser, averaged weights and position of one run; PresetError for parts that do not fit together."""

    def __init__(self, recipe: Recipe, device: torch.device, ranks: Ranks = Ranks()) -> None:  # noqa: B008
        torch.manual_seed(recipe.optim.seed)
        optim = recipe.optim
        self.recipe, self.device, self.ranks = recipe, device, ranks
        self.taught: list[str] = []  # data and teachers, see `srcli.train.run`
        self.network = channels_last(build(recipe.preset).to(device))
        _check_cascade(recipe, self.network)
        freeze(self.network, optim.freeze, recipe.preset.name)
        held = sum(p.nbytes for p in self.network.parameters())
        if held > (free := free_memory(device)):
            raise ResourceError(
                f"the average of {in_words(held)} of weights does not fit: {in_words(free)} of memory are free.",
                hint="Take a smaller network, or free some memory.",
            )
        self.average: ImplicitSR = copy.deepcopy(self.network).requires_grad_(requires_grad=False)
        self.compiled = self.network
        if optim.compile != "off":
            self.compiled = torch.compile(self.network, mode=COMPILE[optim.compile])  # type: ignore[assignment]
        self.objectives = make_objective(recipe.objective, recipe.preset.name, recipe.preset.diffusion)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.stages = [objective for objective in self.objectives if isinstance(objective, TrainingLoss)]
        self.optimiser = make_optimiser(optim, self.parameters)
        self.adversary = next(
            (Adversary(s, optim, device) for s in self.stages if s.discriminator is not None), None
        )
        self.precision = training_precision(optim.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        self.pieces = 1  # of a batch, passed through one after the other so that a step fits into memory
        self.step = self.updates = 0  # steps that are done, and updates that are done of the next one
        self.best = -math.inf
        self.skipped = 0
        self.skipped_in_a_row = 0

    @property
    def preset(self) -> Preset:
        """The preset that weights files carry: the recipe's, with data and teachers."""
        preset = self.recipe.preset
        return replace(preset, training=replace(preset.training, data="; ".join(self.taught) or None))

    def state(self) -> dict[str, Any]:
        return {
            "network": own_state(self.network),
            "average": own_state(self.average),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "pieces": self.pieces,
            "step": self.step,
            "updates": self.updates,
            "best": self.best,
            "taught": self.taught,
            **({"adversary": self.adversary.state()} if self.adversary else {}),
        }

    def restore(self, state: Mapping[str, Any], where: str = "the trainer's state") -> None:
        """Continue from `state`. Raises WeightsError (it is that of another network, or is none)."""
        try:
            load_into(self.network, state["network"], where=where)
            load_into(self.average, state["average"], where=where)
            self.optimiser.load_state_dict(state["optimiser"])
            if state.get("scaler"):
                self.scaler.load_state_dict(state["scaler"])
            if self.adversary:
                self.adversary.restore(state["adversary"])
            self.pieces = state.get("pieces", 1)
            self.step, self.best = state["step"], state["best"]
            self.updates = state.get("updates", 0)
            self.taught = [*dict.fromkeys([*state.get("taught", ()), *self.taught])]
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{where} does not fit this run: {error}.", hint="Use another --out, or --resume no --force."
            ) from None

    def start_from(self, weights: Mapping[str, Tensor], where: str) -> list[str]:
        """Load trained weights; returns the names of tensors that they lack. Optimiser and schedule start anew.

        A shallower encoder is extended. With `init.take = "encoder"` only the encoder is taken; otherwise the weights
        may lack parts (a further branch), but must not have others. Raises WeightsError (shapes differ, or there are
        other parts, or none).
        """
        prefix, weights = "encoder.", self.network.initial_state(weights)
        encoder = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        if not encoder and not self.network.outside:
            raise WeightsError(f"{where} has no encoder.")
        taken = {prefix + k: v for k, v in self.network.encoder.initial_state(encoder).items()}
        if self.recipe.init.take == "whole":
            taken |= {k: v for k, v in weights.items() if not k.startswith(prefix)}
        own = own_state(self.network)
        new = [k for k in own if k not in taken and not k.startswith(prefix)]
        try:
            load_into(self.network, {k: own[k] for k in new} | taken, where=where)
        except WeightsError as error:
            if self.recipe.init.take == "encoder":
                raise
            raise WeightsError(
                error.message, hint="To take only the encoder: --set init.take=encoder"
            ) from None
        self.average.load_state_dict(self.network.state_dict())
        return new

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine to the end, or a factor at every milestone."""
        optim = self.recipe.optim
        if self.step < optim.warmup:
            return optim.lr_start + (optim.lr - optim.lr_start) * (self.step + 1) / optim.warmup
        if optim.decay == "steps":
            return optim.lr * optim.factor ** sum(self.step >= m for m in optim.milestones)
        share = (self.step - optim.warmup) / max(1, optim.steps - optim.warmup)
        return optim.lr_end + (optim.lr - optim.lr_end) * (1 + math.cos(math.pi * share)) / 2

    def train_step(
        self, *parts: Batch, within: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> float:
        """One step on a batch in one or several equal parts; returns the loss over all processes.

        Every loss of the objective updates the weights in turn. An update without a finite loss or gradient changes
        nothing. Passes, but not updates, run inside the context `within`; if that ends a pass, updates that are done
        remain, and the next call, also of a resumed run, goes on after them.
        """
        batches = [self._normalised(piece) for part in parts for piece in part.pieces(self.pieces)]
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        for stage in self.stages:
            stage.begin(self.network, self.step, self.recipe.optim.steps)
        total, finite = 0.0, True
        for which, objective in list(enumerate(self.objectives))[self.updates :]:
            self.drop_gradients()
            loss = torch.zeros((), device=self.device)
            for number, batch in enumerate(batches):
                self._seed(which, number)
                adversary = (
                    self.adversary if self.step >= getattr(objective, "discriminator_from", 0) else None
                )
                with within():
                    loss += self._pass(self.compiled, objective, batch, len(batches), adversary)
            average_over(self.ranks, [loss, *(p.grad for p in self.parameters if p.grad is not None)])
            finite = self._update(loss) and finite
            if self.adversary:
                self.adversary.step(self.learning_rate(), self.ranks, learn=finite)
            total += float(loss)
            self.updates += 1
        self.updates = 0
        self.skipped += not finite
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        self.step += 1
        return total

    def _pass(
        self, network: ImplicitSR, objective: Objective, batch: Batch, parts: int, adversary: Adversary | None
    ) -> Tensor:
        """Add the gradients of one of `parts` passes (and the discriminator's); returns its share of the loss."""
        with torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
            part = objective(network, batch) / parts
        self.scaler.scale(part).backward()
        if adversary and adversary.stage is objective:
            adversary.learn(self.precision, parts)
        return part.detach()

    def try_pass(self, batch: Batch) -> None:
        """Run all passes of a step on a batch, and restore everything."""
        networks = [self.network, *([self.adversary.network] if self.adversary else [])]
        buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
        normalised = self._normalised(batch)
        for stage in self.stages:
            stage.begin(self.network, max(self.step, stage.discriminator_from), self.recipe.optim.steps)
        try:
            for objective in self.objectives:
                self._seed()
                self._pass(self.network, objective, normalised, 1, self.adversary)
                self.drop_gradients()
        finally:
            self.drop_gradients()
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)

    def drop_gradients(self) -> None:
        """Drop the gradients of passes that were not finished."""
        for network in (self.network, *([self.adversary.network] if self.adversary else [])):
            network.zero_grad(set_to_none=True)

    @property
    def bytes_to_come(self) -> int:
        """Bytes that the optimisers will take at their first step; 0 after it."""
        size = 1 if self.recipe.optim.optimiser == "adamw-8bit" else 4  # bytes of a moment; Adam keeps two
        pairs = [(self.optimiser, self.parameters)]
        if self.adversary:
            pairs.append((self.adversary.optimiser, self.adversary.parameters))
        return sum(2 * size * p.numel() for optimiser, own in pairs if not optimiser.state for p in own)

    def _seed(self, *place: int) -> None:
        """Make an objective's noise a function of the step, so that a resumed run draws the same."""
        numbers = (self.recipe.optim.seed, self.step, self.ranks.rank, *place)
        digest = hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest()
        torch.manual_seed(int.from_bytes(digest, "big"))

    def _normalised(self, batch: Batch) -> Batch:
        moved = batch.with_each(lambda value: value.to(self.device, non_blocking=True))
        mean, std = (moved.hr.new_tensor(value) for value in self.recipe.preset.mean_std)
        lr = (moved.lr - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)
        picture = moved.picture
        if picture is not None:
            picture = (picture - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)
        return moved._replace(lr=lr, hr=(moved.hr - mean) / std, picture=picture)

    def _update(self, loss: Tensor) -> bool:
        """Change the weights by their gradients, if these and the loss are finite; whether they were."""
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.optim.clip or math.inf)
        finite = bool(torch.isfinite(norm) & torch.isfinite(loss))
        if finite:
            self.scaler.step(self.optimiser)
            self._average()
        self.scaler.update()
        return finite

    @torch.no_grad()
    def _average(self) -> None:
        # The ramp lets early averages forget the initial weights.
        decay = min(self.recipe.optim.ema, (1 + self.step) / (10 + self.step))
        averages: list[Tensor] = list(self.average.parameters())
        current: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, current, 1 - decay)
        for average, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            average.copy_(now)


class Adversary:
    """The discriminator of a stage with its optimiser."""

    def __init__(self, stage: TrainingLoss, optim: OptimSettings, device: torch.device) -> None:
        assert stage.discriminator is not None
        self.stage, self.device = stage, device
        self.network = channels_last(stage.discriminator.to(device))
        self.parameters = list(self.network.parameters())
        self.optimiser = make_optimiser(optim, self.parameters)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        load_into(self.network, state["network"], where="the discriminator's state")
        self.optimiser.load_state_dict(state["optimiser"])

    def learn(self, precision: Precision, parts: int) -> None:
        with torch.autocast(self.device.type, DTYPES[precision], enabled=precision != "fp32"):
            loss = self.stage.discriminator_loss() / parts
        loss.backward()

    def step(self, lr: float, ranks: Ranks, *, learn: bool) -> None:
        """Update the discriminator if it has gradients, they are finite, and `learn` is set."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            return
        average_over(ranks, gradients)
        if learn and all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            self.optimiser.param_groups[0]["lr"] = lr
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def make_optimiser(optim: OptimSettings, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of the settings. Raises ResourceError (it needs a package that is not installed)."""
    if optim.optimiser == "adamw-8bit":
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ResourceError(
                "AdamW in 8 bits needs the package bitsandbytes.",
                hint="pip install bitsandbytes, or --set optim.optimiser=adamw",
            )
        small: Callable[..., torch.optim.Optimizer] = importlib.import_module("bitsandbytes").optim.AdamW8bit
        return small(parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.decay_weights)
    if optim.optimiser == "adamw":
        return torch.optim.AdamW(
            parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.decay_weights, fused=True
        )
    return torch.optim.Adam(parameters, lr=optim.lr, betas=optim.betas, fused=True)


def freeze(network: nn.Module, beginnings: Sequence[str], where: str) -> None:
    """Freeze parameters by the beginnings of their names; PresetError for a beginning of none, or if none are left."""
    names = [name for name, _ in network.named_parameters()]
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in names):
            raise PresetError(f"optim.freeze: no parameter of {where} begins with '{beginning}'.")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not name.startswith(tuple(beginnings)))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise PresetError(f"optim.freeze leaves nothing of {where} to train.")


def training_precision(name: str, device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> Precision:
    """The precision called `name`; "auto" is bf16 where the processor computes in it, also on a CPU."""
    if name != "auto" or device.type != "cpu":
        return choose_precision(name, device)
    try:
        flags = cpuinfo.read_text("utf-8")
    except OSError:  # not Linux
        return "fp32"
    return "bf16" if {"avx512_bf16", "amx_bf16"} & set(flags.split()) else "fp32"


def average_over(ranks: Ranks, tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type by their mean over all processes, in one message."""
    if ranks.world == 1:
        return
    import torch.distributed as dist

    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    flat /= ranks.world
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def _check_cascade(recipe: Recipe, network: ImplicitSR) -> None:
    branches = network.decoder.n_branches
    schedule = recipe.scale_schedule
    if schedule.branches > branches:
        raise PresetError(
            f"'{schedule}' asks for {schedule.branches} branches; decoder '{recipe.preset.decoder.name}' has {branches}."
        )
    alone = [group[0][1] for group in schedule.groups if len(group) == 1]
    if branches > 1 and max(alone, default=0) > STAGE and recipe.data.scale_per == "sample":
        raise PresetError(
            f"'{schedule}' mixes scales with different stages in one batch.",
            hint='Set data.scale_per = "batch", or give each branch its factor: 1:4x1:4',
        )
