"""Models with code of their own, which is carried and runs only where it is trusted."""

import json
from pathlib import Path

import pytest
import transformers as T  # noqa: N812
from helpers.checkpoints import chatter
from helpers.merges import run, says

from m2n2lab import CheckpointSpace
from m2n2lab.checkpoint import preflight

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path(r"{mark}").write_text("run")

class MyConfig(LlamaConfig):
    model_type = "my"

class MyForCausalLM(LlamaForCausalLM):
    config_class = MyConfig
"""


@pytest.fixture
def own(here, monkeypatch):
    """Two models of a class that comes with them, which leaves a file when it is imported."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(here / "modules"))
    monkeypatch.setattr(T.dynamic_module_utils, "HF_MODULES_CACHE", str(here / "modules"))
    for k, name in enumerate("ab"):
        chatter(name, k, max_position_embeddings=64)
        config = json.loads(Path(name, "config.json").read_text())
        config |= {"architectures": ["MyForCausalLM"], "model_type": "my"}
        config["auto_map"] = {
            "AutoConfig": "my_code.MyConfig",
            "AutoModelForCausalLM": "my_code.MyForCausalLM",
        }
        Path(name, "config.json").write_text(json.dumps(config))
        Path(name, "my_code.py").write_text(CODE.format(mark=here / "was run"))
    line = {"question": "what is 1?", "answer": "#### 1"}
    Path("problems.jsonl").write_text(f"{json.dumps(line)}\n" * 6)
    return here


def test_code_that_is_named_and_not_there_is_told(own):
    for name in "ab":
        Path(name, "my_code.py").unlink()
    config = json.loads(Path("a", "config.json").read_text())
    config["auto_map"]["AutoTokenizer"] = ["other/repository--its_code.Tokenizer", None]
    Path("a", "config.json").write_text(json.dumps(config))
    status, _, error = run("merge", "a", "b", "-o", "out")
    assert status == 0, error
    told = " ".join(error.split())
    says(
        told, "a needs code of its own that is not there (my_code.py), so the result will not load"
    )


SEARCH = ("evolve", "--task", "gsm8k", "--data", "problems.jsonl", "--limit", 1, "--steps", 1)
SEARCH += ("--max-new-tokens", 2, "--held-out", 0, "--json")


def test_code_is_carried_with_a_note_and_not_run(own):
    status, _, error = run("merge", "a", "b", "-o", "out")
    assert status == 0, error
    told = " ".join(error.split())
    says(told, "a comes with code of its own (my_code.py), which the result carries unread")
    assert Path("out/my_code.py").read_text() == Path("a/my_code.py").read_text()
    status, _, error = run(*SEARCH, "--seeds", "a", "b")
    assert status == 2
    says(error, "MyForCausalLM, which is code that comes with the model and is not run")
    says(error, "--trust-remote-code")
    assert not Path("was run").exists()


def test_trusted_code_is_run_and_must_be_trusted_again_to_go_on(own):
    options = ("--seeds", "a", "b", "--trust-remote-code", "--save", "out", "--store", "runs.db")
    status, _, error = run(*SEARCH, *options)
    assert status == 0, error
    assert Path("was run").exists()
    loaded = T.AutoModelForCausalLM.from_pretrained("out", trust_remote_code=True)
    assert type(loaded).__name__ == "MyForCausalLM"
    status, _, error = run("resume", "runs.db", "--steps", 1)
    assert status == 2
    says(error, "must be trusted anew", "--trust-remote-code")
    status, out, error = run("resume", "runs.db", "--steps", 1, "--json", "--trust-remote-code")
    assert status == 0, error
    assert json.loads(out)["steps"] == 2


def test_modules_further_templates_and_packages_are_carried_and_no_path_leads_out(own):
    listed = [{"path": path} for path in ("", "1_Pooling", "2_Dense", "../b", "..", "/etc", "none")]
    Path("a/modules.json").write_text(json.dumps(listed))
    kept = ("1_Pooling/config.json", "2_Dense/model.safetensors", "package/__init__.py")
    kept += ("additional_chat_templates/rag.jinja", "tokenizer.model.v3", "processor_config.json")
    left = ("2_Dense/pytorch_model.bin", "notes/private.txt", "checkpoint-5/config.json")
    for name in (*kept, *left):
        Path("a", name).parent.mkdir(exist_ok=True)
        Path("a", name).write_text("{}")
    space = CheckpointSpace("a", "b")
    space.save(space.seeds[0], "out")
    assert {name for name in (*kept, *left) if Path("out", name).exists()} == set(kept)
    assert not Path("out/config").exists()
    notes = " ".join(preflight(["a", "b"]).notes)
    says(notes, "The additional chat templates of a and b differ: only one of them has one")
