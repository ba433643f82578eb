"""`kvkit init`: a test configuration to begin with."""

from __future__ import annotations

from pathlib import Path

from kvkit.ending import Ending, refuse


def init(*, output: Path = Path("test_config_simple.yaml")) -> Ending:
    """Write a commented test configuration, ready for the addresses.

    Exit codes: 0 written, 1 it cannot be written.

    Parameters
    ----------
    output
        Where to write it; an existing file is left alone.
    """
    from importlib.resources import files

    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(files("kvkit").joinpath("test_config_simple.yaml").read_text(encoding="utf-8"))
    except FileExistsError:
        return refuse(f"{output}: exists already and is left as it is; choose another --output")
    except OSError as error:
        return refuse(f"{output}: cannot be written ({error.strerror})")
    print(f"{output} written. Put in your addresses, then: kvkit run --config {output} --mode with-cache")
    return Ending.DONE
