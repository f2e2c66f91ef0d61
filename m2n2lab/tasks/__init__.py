"""Tasks that ship with the lab, and ``from_function`` for your own."""

from m2n2lab.core.task import Sample, Task, Tasks, from_function
from m2n2lab.tasks.classify import Classify
from m2n2lab.tasks.datasets import digits, mnist
from m2n2lab.tasks.images.diffusion import Prompt
from m2n2lab.tasks.images.one_of_n import Choice, OneOfN
from m2n2lab.tasks.images.reports import PictureReport, Reporter
from m2n2lab.tasks.images.scorer_names import scorer_of
from m2n2lab.tasks.images.scorers import PictureScorer
from m2n2lab.tasks.images.text2image import Text2Image, text2image
from m2n2lab.tasks.language.gsm8k import GSM8K, gsm8k
from m2n2lab.tasks.language.harness import Harness, harness
from m2n2lab.tasks.registry import make_again
from m2n2lab.tasks.shopping.webshop import WebShop, webshop
from m2n2lab.utils.progress import Halted, Progress, Watch

__all__ = [
    "GSM8K",
    "Choice",
    "Classify",
    "Halted",
    "Harness",
    "OneOfN",
    "PictureReport",
    "PictureScorer",
    "Progress",
    "Prompt",
    "Reporter",
    "Sample",
    "Task",
    "Tasks",
    "Text2Image",
    "Watch",
    "WebShop",
    "digits",
    "from_function",
    "gsm8k",
    "harness",
    "make_again",
    "mnist",
    "scorer_of",
    "text2image",
    "webshop",
]
