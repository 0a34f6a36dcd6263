"""vae-gen info"""

from __future__ import annotations

import dataclasses
import json

import click

from vae_gen.cli import options
from vae_gen.reading import Reading


@click.command()
@options.model_argument
@options.reading_options
@options.json_option
def info(model: str, reading: Reading, as_json: bool) -> None:
    """Show what a model says of itself.

    MODEL is a shipped model's name, a bundle's directory, or a decoder.onnx.

    \b
    vae-gen info notebook
    vae-gen info bundles/mine --json
    """
    from vae_gen.model import load

    network = load(model, **vars(reading))
    network.check()
    about = dataclasses.asdict(network.description)
    if network.values_found is not None:
        about = {**about, "output_name": network.reading.output_name, "values_found": network.values_found}
    if network.manifest is not None:
        about = {**about, **dataclasses.asdict(network.manifest)}
        del about["description"]
    if as_json:
        click.echo(json.dumps(about, indent=2))
    else:
        click.echo("\n".join(_lines(about)))


def _lines(values: dict[str, object], indent: str = "") -> list[str]:
    """Nested values as lines of `name  value`; those that say nothing are left out."""
    lines = []
    for name, value in values.items():
        if value in (None, [], (), ""):
            continue
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{name}")
            for first, *others in (_lines(each, indent + "    ") for each in value):
                lines += [f"{indent}  - {first.lstrip()}", *others]
        else:
            numbers = value if isinstance(value, list | tuple) else [value]
            text = ", ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers)
            lines.append(f"{indent}{name:{max(1, 18 - len(indent))}} {text}")
    return lines
