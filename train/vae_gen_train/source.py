"""Where a run's images come from: what the command line says, or what the run's config.json remembers.

The path is for the person's own machine. It stays in the run's directory and never gets into a checkpoint or a
manifest.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from vae_gen.data.datasets import DataSet, load_data_set
from vae_gen.data.options import DataOptions, Notify
from vae_gen.errors import DataError
from vae_gen.files import is_there

from vae_gen_train.config import FILE_NAME as CONFIG
from vae_gen_train.mnist import fetch_mnist


def load(data: Path | None, options: DataOptions, resumed: Path | None, notify: Notify) -> DataSet:
    """The data set at `data`; without it, what the run `resumed` was begun with, or MNIST, downloaded once.

    A resumed run's options are those it was begun with, and `skip_bad` may be added.
    Raises DataError if the images cannot be read, OutputError if the cache cannot be written.
    """
    if resumed is not None:
        path, before = remembered(resumed)
        options = dataclasses.replace(before, skip_bad=before.skip_bad or options.skip_bad)
        if data is None and path is not None and not is_there(path):
            raise DataError(
                f"{resumed} was begun with {path}, which is no longer there; give its new place with --data"
            )
        data = data or path
    if data is not None:
        return load_data_set(data, options, notify)
    mnist = load_data_set(fetch_mnist(notify=notify), options, notify)
    return dataclasses.replace(mnist, origin={**(mnist.origin or {}), "path": None})


def remembered(run: Path) -> tuple[Path | None, DataOptions]:
    """The path and the options in the run's config.json; nothing where an older version wrote it.

    The path is None for MNIST, which is downloaded. Raises DataError if the file is damaged.
    """
    path = run / CONFIG
    try:
        values = dict(json.loads(path.read_text("utf-8")).get("source") or {})
        source = values.pop("path", None)
        return None if source is None else Path(source), DataOptions.from_dict(values)
    except FileNotFoundError:
        return None, DataOptions()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged or of another version: {error}") from error
