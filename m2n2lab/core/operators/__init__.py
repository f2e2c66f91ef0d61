"""Operators: the parts of a method as small objects, which can be exchanged one by one.

====================  ======================  ===================================================
part                  protocol                shipped, by name
====================  ======================  ===================================================
merge of two parents  ``Crossover``           slerp (the paper's), splits, lerp, per-layer,
                                              blocks, task-arithmetic, add-difference,
                                              sum-of-three, ties, dare
choice of parent B    ``MateChoice``          attraction (the paper's), compatible, fitness,
                                              random
weights of data       ``Competition``         the archive's (the paper's, without a name), range
points
who leaves            ``Replacement``         lowest (the paper's), crowding
change of weights     ``Mutation``            noise (a number means its σ)
====================  ======================  ===================================================

``parts`` limits a merge to some tensors, or splits them into groups that are merged apart.
"""

from m2n2lab.core.operators.blocks import Blocks
from m2n2lab.core.operators.competition import Competition, Range
from m2n2lab.core.operators.crossover import (
    Crossover,
    LayerMix,
    Lerp,
    MergeSpace,
    Slerp,
    Splits,
)
from m2n2lab.core.operators.mate_choice import (
    AtRandom,
    Attraction,
    ByFitness,
    Compatible,
    MateChoice,
)
from m2n2lab.core.operators.mutation import Mutation, Noise
from m2n2lab.core.operators.operator import Operator
from m2n2lab.core.operators.replacement import Contest, Crowding, Lowest, Replacement
from m2n2lab.core.operators.task_vectors import (
    AddDifference,
    Dare,
    SumOfThree,
    TaskArithmetic,
    Ties,
)
from m2n2lab.core.spaces.tensor_rule import TensorRule

KINDS: dict[str, type[Operator]] = {
    part.what: part for part in (Crossover, MateChoice, Competition, Replacement, Mutation)
}
"""The parts of a method, by the option that takes them."""

__all__ = [
    "KINDS",
    "AddDifference",
    "AtRandom",
    "Attraction",
    "Blocks",
    "ByFitness",
    "Compatible",
    "Competition",
    "Contest",
    "Crossover",
    "Crowding",
    "Dare",
    "LayerMix",
    "Lerp",
    "Lowest",
    "MateChoice",
    "MergeSpace",
    "Mutation",
    "Noise",
    "Operator",
    "Range",
    "Replacement",
    "Slerp",
    "Splits",
    "SumOfThree",
    "TaskArithmetic",
    "TensorRule",
    "Ties",
]
