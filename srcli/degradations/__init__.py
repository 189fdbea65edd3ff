"""Real-world degradations for training and test pairs: ranges by name, numbers drawn from them, pictures made.

    degradation = draw(find_degradation("realesrgan"), numbered(seed, index))
    lr, hr = degrade(hr, degradation, size)

The second-order pipeline of Wang et al. (Real-ESRGAN, ICCVW 2021). Every picture has numbers of its own; the original
shares the choice of sizes within a batch and shuffles a pool, which changes nothing statistically.
"""

from srcli.degradations.apply import degrade
from srcli.degradations.draw import Degradation, draw, numbered
from srcli.degradations.presets import DEGRADATIONS, Ranges, find_degradation

__all__ = ["DEGRADATIONS", "Degradation", "Ranges", "degrade", "draw", "find_degradation", "numbered"]
