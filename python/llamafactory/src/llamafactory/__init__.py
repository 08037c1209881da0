"""LLaMA-Factory's names over loraine. Not beside LLaMA-Factory itself: both are a package called llamafactory."""
import importlib.metadata

try:
    _real = importlib.metadata.version("llamafactory")
except importlib.metadata.PackageNotFoundError:
    _real = None
if _real is not None:
    raise ImportError(f"LLaMA-Factory {_real} and loraine-llamafactory are installed together, and both are the package llamafactory: "
                      "pip uninstall one of the two (then install the other once more, since they share file names)")

__version__ = "0.9.5+loraine"  # whose names these are
