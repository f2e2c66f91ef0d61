"""Task files in the form of lm-evaluation-harness, with their data beside them."""

import json
from itertools import count

import yaml

ROWS = [
    {
        "question": f"what is {k} + {k}?",
        "answer": str(2 * k),
        "choices": ["one", "seven", "no idea at all"],
        "gold": k % 3,
        "passage": f"the number {k} comes after {max(k - 1, 0)}",
    }
    for k in range(10)
]


def metric(name, aggregation="mean", higher=True, **more):
    return {"metric": name, "aggregation": aggregation, "higher_is_better": higher, **more}


KINDS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [
            metric("acc"),
            metric("acc_norm"),
            metric("brier_score", "brier_score", False),
        ],
    },
    "words": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
        "filter_list": [
            {"name": "whole", "filter": [{"function": "take_first"}]},
            {
                "name": "digit",
                "filter": [
                    {"function": "regex", "regex_pattern": "(\\d)"},
                    {"function": "take_first"},
                ],
            },
        ],
        "metric_list": [metric("exact_match")],
    },
    "likely": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [metric("perplexity", "perplexity", False), metric("acc")],
    },
    "text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{passage}}",
        "metric_list": [
            metric("bits_per_byte", "bits_per_byte", False),
            metric("word_perplexity", "weighted_perplexity", False),
        ],
    },
}


class Files:
    """Writes a task's file and its data into a folder, and returns its path."""

    def __init__(self, folder):
        self.folder, self.numbers = folder, count()

    def __call__(self, kind="choice", rows=ROWS, **changes):
        name = f"tiny_{kind}_{next(self.numbers)}"
        text = "\n".join(json.dumps(row) for row in rows)
        (self.folder / f"{name}.jsonl").write_text(text)
        files = {"test": f"{name}.jsonl", "train": f"{name}.jsonl"}
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files, "cache_dir": str(self.folder / "cache")},
            "test_split": "test",
            "fewshot_split": "train",
            **KINDS[kind],
            **changes,
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path
