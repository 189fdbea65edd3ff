"""The decoders, by the name a preset uses."""

from srcli.config.plugins import Registry
from srcli.models.decoders.blend import Blend
from srcli.models.decoders.canvas import Canvas
from srcli.models.decoders.ciaosr import CiaoSR
from srcli.models.decoders.hiif import HIIF
from srcli.models.decoders.lia import LIA
from srcli.models.decoders.liif import LIIF
from srcli.models.decoders.linf import LINF
from srcli.models.decoders.lit import LIT
from srcli.models.decoders.lm_ciaosr import LMCiaoSR
from srcli.models.decoders.lmf import LMLIIF, LMLTE
from srcli.models.decoders.lte import LTE, LTEPlus
from srcli.models.decoders.metasr import MetaSR
from srcli.models.decoders.native import Native
from srcli.models.decoders.thera import Thera
from srcli.models.sr import Decoder

DECODERS: Registry[type[Decoder]] = Registry(
    "decoder",
    Decoder,
    {
        "blend": Blend,
        "canvas": Canvas,
        "ciaosr": CiaoSR,
        "hiif": HIIF,
        "lia": LIA,
        "liif": LIIF,
        "linf": LINF,
        "lit": LIT,
        "lm-ciaosr": LMCiaoSR,
        "lm-liif": LMLIIF,
        "lm-lte": LMLTE,
        "lte": LTE,
        "lte-plus": LTEPlus,
        "metasr": MetaSR,
        "native": Native,
        "thera": Thera,
    },
)
