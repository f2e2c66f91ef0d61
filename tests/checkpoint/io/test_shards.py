"""Shards: a tensor that is in several of them is that of the one which the index names."""

import json
from pathlib import Path

import torch
from helpers.merges import weights
from safetensors.torch import save_file

from m2n2lab import CheckpointSpace
from m2n2lab.checkpoint import Checkpoint


def test_a_tensor_in_two_shards_is_that_which_the_index_names(here):
    for folder, base in (("a", 1.0), ("b", 2.0)):
        Path(folder).mkdir()
        files = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
        for k, own in enumerate("xy"):
            held = {own: torch.full((4,), base), "both": torch.full((4,), base + 10 * k)}
            save_file(held, Path(folder, files[k]), {"format": "pt"})
        places = {"x": files[0], "both": files[0], "y": files[1]}
        index = {"metadata": {}, "weight_map": places}
        Path(folder, "model.safetensors.index.json").write_text(json.dumps(index))
    assert Checkpoint.open("a").array("both").tolist() == [1.0] * 4
    space = CheckpointSpace("a", "b")
    space.save(space.seeds[1], "out")
    found = {name: value[0].item() for name, value in weights("out").items()}
    assert found == {"x": 2.0, "y": 2.0, "both": 2.0}
