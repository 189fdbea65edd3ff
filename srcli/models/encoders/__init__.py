"""The encoders, by the name a preset uses; each is imported when it is asked for."""

from srcli.config.plugins import Registry
from srcli.models.sr import Encoder

ENCODERS: Registry[type[Encoder]] = Registry(
    "encoder",
    Encoder,
    {
        "edsr": ".edsr:EDSR",
        "fixed-scale": ".fixed_scale:FixedScale",
        "latent": ".perception:LatentFeatures",
        "perception": ".perception:Perception",
        "rdn": ".rdn:RDN",
        "refined": ".refined:Refined",
        "rlfn": ".rlfn:RLFN",
        "rrdb": ".rrdb:RRDB",
        "srvgg": ".srvgg:SRVGG",
        "swinir": ".swinir:SwinIR",
    },
    package=__name__,
)
