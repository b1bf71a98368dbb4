"""Composes the built-in golden set `core`: accuracy/golden/data/core.json, from the texts in tools/golden_inputs/ and nothing else.

    python -m tools.make_golden            # write it
    python -m tools.gen --check            # fail if the stored file differs from what this makes

The inputs are a snapshot: prose.txt and code.txt are paragraphs of this project's documentation and functions of its source as they
were when the set was made, words.yaml holds sentences, questions and tools written for it. So editing a page does not change the set, whose
digest every reference record names. Choices are drawn from SHA-256 of a fixed word, because a library's generator may change.

80 items for each of the ten strata of FleetPolicy.spec.accuracy.strata; at most 256 tokens but for LongContext, the upper end of BlockEdges
and of MixedLengths. Lengths are meant in tokens of a usual byte-pair vocabulary: a word and a space are about 4.3 letters of English prose.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tools.paths import ROOT

INPUTS = ROOT / "tools/golden_inputs"
TARGET = ROOT / "accuracy/golden/data/core.json"
EACH = 80  # items of a stratum
LETTERS = 4.3  # of English prose per token
GOES_ON = 300  # letters of a natural continuation: the 48 scored positions and some
T = TypeVar("T")
Entry = dict[str, Any]


class Dice:
    """The same draws for the same word, on every machine and version."""

    def __init__(self, word: str) -> None:
        self.word, self.count = word, 0

    def below(self, n: int) -> int:
        self.count += 1
        return int.from_bytes(hashlib.sha256(f"{self.word}/{self.count}".encode()).digest()[:8], "big") % n

    def one(self, of: Sequence[T]) -> T:
        return of[self.below(len(of))]

    def some(self, of: Sequence[T], n: int) -> list[T]:
        """`n` different ones."""
        left = list(of)
        return [left.pop(self.below(len(left))) for _ in range(n)]


class Inputs:
    def __init__(self, folder: Path) -> None:
        self.prose = (folder / "prose.txt").read_text(encoding="utf-8").strip("\n").split("\n\n")
        self.code = (folder / "code.txt").read_text(encoding="utf-8").strip("\n").split("\n\n\n\n")
        self.words: dict[str, Any] = yaml.safe_load((folder / "words.yaml").read_text(encoding="utf-8"))

    def passages(self) -> dict[str, str]:
        prose = {f"p{n:03}": text for n, text in enumerate(self.prose)}
        return {**prose, **{f"c{n:03}": text for n, text in enumerate(self.code)}}


def compose(inputs: Inputs) -> list[Entry]:
    """All items, stratum by stratum, in the stored form: `use` names passages that stand before `text`, `skip` letters of them left out."""
    out: list[Entry] = []
    strata = (
        ("UltraShort", "short", ultra_short),
        ("Chat", "chat", chat),
        ("Code", "code", code),
        ("OtherScripts", "script", other_scripts),
        ("RareTokens", "rare", rare_tokens),
        ("Tools", "tool", tools),
        ("LongContext", "long", long_context),
        ("BlockEdges", "edge", block_edges),
        ("SharedPrefix", "prefix", shared_prefix),
        ("MixedLengths", "mixed", mixed_lengths),
    )
    for stratum, short, make in strata:
        made = list(make(inputs, Dice(f"polyfleet core 1 {stratum}")))
        if len(made) != EACH:
            raise SystemExit(f"{stratum}: {len(made)} items made, {EACH} wanted; correct tools/make_golden.py or its inputs")
        out += [{"id": f"{short}-{n:02}", "stratum": stratum, **entry} for n, entry in enumerate(made)]
    return out


def user(text: str, *before: tuple[str, str]) -> list[Entry]:
    return [*({"role": role, "content": content} for role, content in before), {"role": "user", "content": text}]


def split(text: str, letters: int) -> tuple[str, str]:
    """At the last space within the first `letters`; what follows keeps its space, as a tokenizer wants it."""
    at = text.rfind(" ", 1, letters + 1)
    return text[:at], text[at : at + GOES_ON]


def ultra_short(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    """Prompts of 1 to 8 words: some kernels are wrong at one length only."""
    seen: set[str] = set()
    for length in range(1, 9):
        kept = 0
        for sentence in dice.some(inputs.words["everyday"], len(inputs.words["everyday"])):
            prompt = " ".join(sentence.split()[:length])
            if kept < EACH // 8 and prompt not in seen:
                seen.add(prompt)
                kept += 1
                yield {"text": prompt}


def chat(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    """Questions: twenty with a one-word answer, the rest open, some with a system message or a second turn."""
    words = inputs.words
    for pair in words["one_word"]:
        yield {"messages": user(pair["question"]), "answer": pair["answer"], "mustStop": True}
    subjects = dice.some([(s, q) for s in words["subjects"] for q in words["questions"]], 60)
    for number, (subject, question) in enumerate(subjects):
        asked = question.replace("{x}", subject)
        if number % 3 == 1:
            yield {"messages": user(asked, ("system", dice.one(words["systems"])))}
        elif number % 3 == 2:
            said = dice.one([p for p in inputs.prose if len(p) < 420])
            yield {"messages": user(dice.one(words["follow_ups"]), ("user", asked), ("assistant", said))}
        else:
            yield {"messages": user(asked)}


def code(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    """Source that goes on as it really does, and questions about source."""
    order = dice.some(range(len(inputs.code)), len(inputs.code))
    for index in order[:50]:
        lines = inputs.code[index].split("\n")
        kept, size = [lines[0]], len(lines[0])
        while size < 380 and len(kept) < len(lines) - 4:
            kept.append(lines[len(kept)])
            size += len(kept[-1])
        yield {"text": "\n".join(kept), "continuation": "\n" + "\n".join(lines[len(kept) :])[:GOES_ON]}
    asks = ("Explain what this function does.", "Write a docstring for this function.", "Write two unit tests for this function.")
    short = sorted(order[50:], key=lambda i: len(inputs.code[i]))
    for index in short[:30]:
        yield {"messages": user(f"{dice.one(asks)}\n\n```python\n{inputs.code[index][:640]}\n```")}


def other_scripts(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    for _, script in sorted(inputs.words["scripts"].items()):
        for subject in script["subjects"]:
            yield {"messages": user(script["ask"].replace("{x}", subject))}
            yield {"text": script["go_on"].replace("{x}", subject)}


def rare_tokens(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    """Ids that ordinary prose never reaches: digits, hexadecimal, emoji, signs, rare blocks, long names, odd white space."""
    words = inputs.words
    for length in range(4, 40, 3):
        yield {"text": "Serial number " + "".join(str(dice.below(10)) for _ in range(length)) + ", next serial number "}
    for _ in range(12):
        number = "".join(f"{dice.below(16):x}" for _ in range(32))
        yield {"text": f"id: {number[:8]}-{number[8:12]}-{number[12:16]}-{number[16:20]}-{number[20:]}\nid: "}
    for size in range(3, 15):
        yield {"text": "".join(dice.some(words["emoji"], size)) + " "}
    for size in range(6, 30, 2):
        yield {"text": "Let " + " ".join(dice.one(words["signs"]) for _ in range(size)) + " then"}
    for block in words["blocks"]:
        yield {"text": "".join(chr(block + dice.below(26)) for _ in range(18))}
    for size in range(3, 13):
        yield {"text": f"class {''.join(dice.some(words['parts'], size))}(Base):\n    def "}
    for size in range(10):
        gap = dice.one(("\t", "  ", "\n\n\n", " \t ", "\r\n"))
        some = dice.some(words["nouns"], 6 + size)
        yield {"text": gap.join(some) + gap}


def tools(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    """Requests that need one of two tools or none, and answers under a JSON schema."""
    known = inputs.words["tools"]
    definitions = [t["tool"] for t in known]
    for entry in known:
        others = [d for d in definitions if d is not entry["tool"]]
        for request in entry["requests"]:
            offered = dice.some([entry["tool"], *dice.some(others, 1)], 2)
            yield {"messages": user(request), "tools": offered, "expectTool": entry["tool"]["function"]["name"]}
    for request in inputs.words["no_tool"]:
        yield {"messages": user(request), "tools": dice.some(definitions, 2), "expectTool": ""}
    for entry in inputs.words["schemas"]:
        fields = ", ".join(sorted(entry["schema"]["properties"]))
        for text in entry["texts"]:
            yield {"messages": user(f"Extract {fields} as JSON. Answer with the JSON object only.\n\n{text}"), "schema": entry["schema"]}


def long_context(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    """1k, 2k, 4k - 64 to 4k + 64, 8k, 16k and 32k tokens of running text and source. Which of them a deployment is asked depends on its
    context."""
    lengths = [1000 + 8 * n for n in range(30)] + [2000 + 8 * n for n in range(24)] + [4032 + 10 * n for n in range(14)]
    lengths += [8100] * 8 + [16200] * 2 + [32000] * 2
    passages = inputs.passages()
    last = dice.some([p for p in passages if p.startswith("p") and len(passages[p]) > GOES_ON + 200], len(lengths))
    for length, end in zip(lengths, last, strict=True):
        letters = int(length * LETTERS) - (len(passages[end]) - GOES_ON)
        use, rest = [], [p for p in passages if p != end]
        while letters > 0:
            name = rest.pop(dice.below(len(rest)))
            use.append(name)
            letters -= int(len(passages[name]) * (1.0 if name.startswith("p") else 1.35)) + 2  # source has fewer letters per token
        text, goes_on = split(passages[end], len(passages[end]) - GOES_ON)
        whole = "\n\n".join(passages[p] for p in use)
        skip = whole.find(" ", max(0, -letters)) + 1  # what is too much is left out in front, up to the next word
        yield {"use": use, "skip": skip, "text": "\n\n" + text, "continuation": goes_on}


def block_edges(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    """Lengths around the edges of cache blocks (16 and 128) and of usual prefill chunks, each a token further, so that an edge is met
    whatever the template and the tokenizer add."""
    words = inputs.words
    for edge in (16, 32, 64, 128, 256, 512, 1024, 2048):
        for length in range(edge - 6, edge + 4):
            tokens: list[str] = []
            while len(tokens) < length:
                tokens += ["The", dice.one(words["adjectives"]), dice.one(words["nouns"]), dice.one(words["verbs"])]
                tokens += ["the", dice.one(words["adjectives"]), dice.one(words["nouns"])]
                tokens += [dice.one(words["prepositions"]), "the", dice.one(words["nouns"]), "."]
            yield {"text": " ".join(tokens[:length]).replace(" .", ".")}


def shared_prefix(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    """Sixteen texts with five questions each: the second to the fifth find the first one's cache."""
    texts = dice.some([p for p in inputs.prose if 420 < len(p) < 700], EACH // 5)
    for text in texts:
        for question in inputs.words["about"]:
            yield {"messages": user(question, ("system", f"Answer questions about this text.\n\n{text}"))}


def mixed_lengths(inputs: Inputs, dice: Dice) -> Iterator[Entry]:
    """From 8 to 900 tokens, in mixed order, so that one batch holds short and long prompts."""
    texts = dice.some([p for p in inputs.prose if len(p) > GOES_ON + 60], EACH)
    lengths = [int(8 * (900 / 8) ** (n / (EACH - 1))) for n in range(EACH)]
    names = {text: name for name, text in inputs.passages().items()}
    for text, length in zip(texts, dice.some(lengths, EACH), strict=True):
        letters = int(length * LETTERS)
        use: list[str] = []
        while letters > len(text) - GOES_ON:
            name = names[dice.one([p for p in inputs.prose if p != text and names[p] not in use])]
            use.append(name)
            letters -= len(inputs.prose[int(name[1:])]) + 2
        start, goes_on = split(text, max(letters, 30))
        entry: Entry = {"text": ("\n\n" if use else "") + start, "continuation": goes_on}
        yield {"use": use, **entry} if use else entry


def generate() -> dict[Path, str]:
    """The stored file and its text: passages that are used, then one item a line."""
    inputs = Inputs(INPUTS)
    items = compose(inputs)
    used = {name for item in items for name in item.get("use", ())}
    passages = {name: text for name, text in inputs.passages().items() if name in used}

    def line(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    parts = ['{"passages":{', ",\n".join(f"{line(n)}:{line(t)}" for n, t in passages.items()), '},"items":[']
    return {TARGET: "\n".join([*parts, ",\n".join(map(line, items)), "]}", ""])}


if __name__ == "__main__":
    for path, content in generate().items():
        path.write_text(content, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}: {len(content.encode())} bytes")
