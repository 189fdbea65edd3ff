"""The decoders, by the name a preset uses; each is imported when it is asked for."""

from srcli.config.plugins import Registry
from srcli.models.sr import Decoder

DECODERS: Registry[type[Decoder]] = Registry(
    "decoder",
    Decoder,
    {
        "blend": ".blend:Blend",
        "canvas": ".canvas:Canvas",
        "ciaosr": ".ciaosr:CiaoSR",
        "hiif": ".hiif:HIIF",
        "lia": ".lia:LIA",
        "liif": ".liif:LIIF",
        "linf": ".linf:LINF",
        "lit": ".lit:LIT",
        "lm-ciaosr": ".lm_ciaosr:LMCiaoSR",
        "lm-liif": ".lmf:LMLIIF",
        "lm-lte": ".lmf:LMLTE",
        "lte": ".lte:LTE",
        "lte-plus": ".lte:LTEPlus",
        "metasr": ".metasr:MetaSR",
        "native": ".native:Native",
        "thera": ".thera:Thera",
    },
    package=__name__,
)
