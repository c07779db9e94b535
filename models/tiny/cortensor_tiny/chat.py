"""Turns messages into the text the model reads, with the template that the GGUF file carries."""

from functools import cache
from pathlib import Path

import jinja2

TEMPLATE_PATH = Path(__file__).with_name("chat_template.jinja")


def template_source() -> str:
    return TEMPLATE_PATH.read_text(encoding="utf-8").rstrip("\n")


@cache
def _template() -> jinja2.Template:
    return jinja2.Environment().from_string(template_source())


def render(messages: list, tools: list | None = None, add_generation_prompt: bool = False) -> str:
    return _template().render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt)
