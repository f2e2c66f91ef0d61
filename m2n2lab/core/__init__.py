"""Core: the method M2N2, Model Merging of Natural Niches (arXiv 2508.16204), and nothing else.

The functions for each part of the paper (P members, D data points, N parameters; s_kj ≥ 0 is the
score of member k on data point j, z_j = Σ_k s_kj, c_j the capacity of data point j):

=====================================  ========================================================
part of the paper                      function
=====================================  ========================================================
§3.1 SLERP, f_t(A, B)                  ``spaces.slerp.split_point`` (and ``angle`` for ω)
§3.1 split point: f_w before it,       ``spaces.space.DenseSpace.merge`` on vectors,
f_{1−w} after it                       ``spaces.recipe.Recipe.combine`` on recipes
§3, competition:                       ``archive.Archive.judge``, which counts the child in
fitness_k = Σ_j c_j s_kj / z_j^α
§3, attraction: g(A, B) =              ``archive.Archive.attraction``; mates are drawn by
Σ_j c_j / z_j^α · max(s_Bj − s_Aj, 0)  ``archive.Archive.draw_mate``
§3, replacement: the lowest leaves     ``archive.Archive.admit``
mutation: N(0, σ²) added to a child    ``spaces.space.DenseSpace.mutate``
§3, one step of the loop               ``evolver.Evolver.ask``, ``evaluate``, ``tell``; ``step``
coverage, entropy (figures)            ``population.Population.coverage``, ``entropy``
§4, warm-up: seeds merge at random     ``evolver.Evolver``, its ``warmup``
§4, chromosomes: attention layers      ``operators.parts.Parts``
merged apart
§4, capacity of image tasks            ``operators.competition.Range``
§4, baselines and ablations            ``methods.registry.METHODS``, one algorithm a file
any part of it exchanged               ``operators``: crossover, mate, competition, …
=====================================  ========================================================

``tally`` counts bits instead of summing products where right/wrong scores are many;
``early_rejection`` stops scoring a child once its rejection is certain, with the same outcome;
``task`` scores models; ``history`` and ``observers`` record and report the search;
``spaces.buffers`` merges what torch modules have beside weights, such as BatchNorm statistics.

Glossary, in the order of one merge:

- **seed**: a model that the search starts from; members 0 to K − 1.
- **space**: a representation of models with its merge and mutation.
- **genome**: the space's representation of a model: a vector, or a *recipe* (the seeds'
  coefficients along the vector). It is opaque outside the space.
- **derived vector**: a vector that an operator such as TIES computes from recipes on demand; a
  column of a recipe beside the seeds.
- **task**: data points, and how a model scores on them.
- **operator**: an exchangeable part of the method: crossover, mate choice, competition,
  replacement, mutation.
- **group**: tensors that are merged as a vector of their own, with an angle, a split and a mix.
- **member**: a model in the archive, with an id that is never reused.
- **proposal**: a child that could be made: ids of its parents, split, mix, seed of its mutation.
- **child**: the model of a proposal, or an external model submitted without one.
- **verdict**: the outcome for a child with given scores: accepted or not, fitness, rank, and the
  member that it displaces.
- **generation**: one step as it happened: proposal, verdict, and the standing before and after.
- **standing**: ids and fitness of the members at one moment, with coverage and entropy.
- **population**: the full state of the archive at one moment: members, scores, weights.
- **partial**: scores of a child that was rejected before every data point was scored.
- **snapshot**: the state of a search that a page shows (``m2n2lab.widgets.session``).
"""
