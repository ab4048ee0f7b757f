"""Where the files are that are not Python: migrations, Envoy's configuration, the generated documents."""

from pathlib import Path

_PACKAGED = Path(__file__).parents[1] / "assets"
_CHECKOUT = Path(__file__).parents[3]


def asset(relative: str) -> Path:
    """The path of an asset, e.g. `envoy/envoy.yaml`: from the installed wheel, or else from the checkout.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    for root in (_PACKAGED, _CHECKOUT):
        path = root / relative
        if path.exists():
            return path
    raise FileNotFoundError(f"{relative} is in neither the installed package nor a checkout; reinstall decisiongraph")
