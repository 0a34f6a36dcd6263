"""vae-gen models"""

from __future__ import annotations

import json

import click

from vae_gen.cli import options


@click.command()
@options.json_option
def models(as_json: bool) -> None:
    """List the models that ship.

    \b
    vae-gen models
    vae-gen models --json
    """
    from vae_gen.bundles import DEFAULT, shipped
    from vae_gen.manifest import DECODER, Manifest

    rows = []
    for name, folder in shipped().items():
        about = Manifest.read(folder).description
        size = (folder / DECODER).stat().st_size
        if not as_json:
            channels, height, width = about.image_shape
            shape = f"{about.latent_dim:4} latents  {height}x{width}x{channels}  {size / 1000:8.0f} kB"
            click.echo(f"{name:16} {shape}{'  (default)' if name == DEFAULT else ''}")
        rows.append(
            {
                "name": name,
                "default": name == DEFAULT,
                "latent_dim": about.latent_dim,
                "image_shape": about.image_shape,
                "decoder_bytes": size,
                "path": str(folder),
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2))
