"""The encoders, by the name a preset uses."""

from srcli.config.plugins import Registry
from srcli.models.encoders.edsr import EDSR
from srcli.models.encoders.fixed_scale import FixedScale
from srcli.models.encoders.perception import LatentFeatures, Perception
from srcli.models.encoders.rdn import RDN
from srcli.models.encoders.refined import Refined
from srcli.models.encoders.rlfn import RLFN
from srcli.models.encoders.rrdb import RRDB
from srcli.models.encoders.srvgg import SRVGG
from srcli.models.encoders.swinir import SwinIR
from srcli.models.sr import Encoder

ENCODERS: Registry[type[Encoder]] = Registry(
    "encoder",
    Encoder,
    {
        "edsr": EDSR,
        "fixed-scale": FixedScale,
        "latent": LatentFeatures,
        "perception": Perception,
        "rdn": RDN,
        "refined": Refined,
        "rlfn": RLFN,
        "rrdb": RRDB,
        "srvgg": SRVGG,
        "swinir": SwinIR,
    },
)
