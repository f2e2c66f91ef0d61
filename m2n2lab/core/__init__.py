"""The method: M2N2, Model Merging of Natural Niches (arXiv 2508.16204), and nothing else.

Where each part of the paper is (P members, D data points, N parameters; s_kj ≥ 0 is the score of
member k on data point j, z_j = Σ_k s_kj, c_j the capacity of data point j):

=====================================  ========================================================
part of the paper                      function
=====================================  ========================================================
§3.1 SLERP, f_t(A, B)                  ``spaces.slerp.split_point`` (and ``angle`` for ω)
§3.1 split point: f_w before it,       ``spaces.space.DenseSpace.merge`` on vectors,
f_{1−w} after it                       ``spaces.recipe.Recipe.combine`` on recipes
§3, competition:                       ``archive.Archive.judge``, which counts a child in
fitness_k = Σ_j c_j s_kj / z_j^α
§3, attraction: g(A, B) =              ``archive.Archive.attraction``; mates are drawn by
Σ_j c_j / z_j^α · max(s_Bj − s_Aj, 0)  ``archive.Archive.draw_mate``
§3, replacement: the lowest leaves     ``archive.Archive.admit``
mutation: N(0, σ²) added to a child    ``spaces.space.DenseSpace.mutate``
§3, one step of the loop               ``evolver.Evolver.ask``, ``evaluate``, ``tell``; ``step``
coverage, entropy (figures)            ``population.Population.coverage``, ``entropy``
§4, baselines and ablations            ``methods.registry.METHODS``, one algorithm a file
=====================================  ========================================================

``early_rejection`` gives a child up once it is certain that it will not live, with the same
outcome; ``task`` is what models are scored on; ``history`` and ``observers`` are what others see of
a search.

The nouns, in the order in which one merge meets them:

- **seed**: a model that the search starts from; members 0 to K − 1.
- **space**: what a model is, and how two become one.
- **genome**: what a space keeps of a model: a vector, or a *recipe* (the seeds' coefficients along
  the vector). Only the space looks inside one.
- **task**: data points, and how a model scores on any of them.
- **member**: a model of the archive, with an id that is never given to another.
- **proposal**: a child that could be made: ids of its parents, split, mix, seed of its mutation.
- **child**: what a proposal makes, or a model that was submitted without one.
- **verdict**: what would happen to a child with these scores: accepted or not, fitness, rank, and
  the member that it would displace.
- **generation**: one step as it happened: proposal, verdict, and the standing before and after.
- **standing**: ids and fitness of the members at one moment, and what they reach together.
- **population**: the whole state of the archive at one moment: members, scores, weights.
- **partial**: scores of a child that was given up before every data point was scored.
- **snapshot**: what a page shows of a search (``m2n2lab.widgets.session``).
"""
