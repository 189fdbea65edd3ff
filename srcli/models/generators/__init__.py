"""The generators, by the name a preset uses."""

from srcli.models.generators.idm import IDM
from srcli.models.generators.latent import FPLIA, Kim
from srcli.models.sr import Generator

GENERATORS: dict[str, type[Generator]] = {"fplia": FPLIA, "idm": IDM, "kim": Kim}
