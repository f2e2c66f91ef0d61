"""Language models in tests: answers of a generator in order, and answers that follow a script."""


def answers(generator, asked, prompts, watch=None):
    """Return a generator's answers in the order of their prompts."""
    found = {}
    for batch in generator.batches(*asked, prompts, watch):
        found.update(zip(batch.places, batch.texts, strict=True))
    assert sorted(found) == list(range(len(prompts)))
    return [found[place] for place in range(len(prompts))]


def scripted(task, monkeypatch, script):
    """Let the model answer by the number of the turn; returns the prompts of each turn."""
    asked = []

    def ask(_, prompts, meter, count):
        asked.append(prompts)
        turn = script[min(len(asked) - 1, len(script) - 1)]
        return [turn] * len(prompts)

    monkeypatch.setattr(task, "ask", ask)
    monkeypatch.setattr(task, "tokenizer", lambda _: None)
    return asked
