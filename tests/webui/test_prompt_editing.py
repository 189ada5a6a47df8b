"""Prompt editing as we read it where there is no WebUI, held against the WebUI's own reading of the same prompts."""

from __future__ import annotations

import json
import random
import subprocess

from lib_lora.grammar.brackets import schedule
from tests.test_editing import EDITED
from tests.webui.environment import ENVIRONMENT

COMPARE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("prompt_parser", sys.argv[1])
parser = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parser)
prompts = json.load(sys.stdin)
print(json.dumps([[parser.get_learned_conditioning_prompt_schedules([prompt], 10, hires)[0] for hires in (None, 6)]
                  for prompt in prompts]))
"""
WORDS = ("a", "b c", " ", "\ue000", "\\[", "\\:", "3", "dog, ", "x-y")
WHENS = ("3", "0.5", "7", " 4 ", ".25", "1.5", "12", "0", "-2", "10", "9", "+2", "1e1", "2.", "1.25e0")
SHAPES = ("[{}:{}:{when}]", "[{}:{when}]", "[{}::{when}]", "[{}|{}]", "[{}|{}|{}]", "({}:1.2)", "[{}]", "({})")


def some_prompt(chance, depth=3):
    parts = []
    for _ in range(chance.randint(0, 3)):
        if not depth or chance.random() < 0.4:
            parts.append(chance.choice(WORDS))
        else:
            inner = (some_prompt(chance, depth - 1) for _ in range(3))
            parts.append(chance.choice(SHAPES).format(*inner, when=chance.choice(WHENS)))
    return "".join(parts)


def test_random_prompts_are_read_as_the_webui_itself_reads_them():
    chance = random.Random(0)
    prompts = [*EDITED, *(f"photo: {some_prompt(chance)}" for _ in range(100))]
    parser = ENVIRONMENT.root / "modules" / "prompt_parser.py"
    done = subprocess.run([ENVIRONMENT.python, "-c", COMPARE, parser], input=json.dumps(prompts), text=True,
                          capture_output=True, check=True)  # fmt: skip
    for prompt, (first, hires) in zip(prompts, json.loads(done.stdout), strict=True):
        assert [list(each) for each in schedule(prompt, 10)] == first, prompt
        assert [list(each) for each in schedule(prompt, 6, before=10)] == hires, prompt
