"""setuptools, but it does not build where LLaMA-Factory itself is installed: both hold a package called llamafactory."""
import importlib.metadata
import sysconfig

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F401,F403


def _check():
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    for found in importlib.metadata.distributions(path=sorted(places)):
        if (found.metadata["Name"] or "").lower() == "llamafactory":
            raise SystemExit(f"LLaMA-Factory {found.version} is installed here, and this package has its name: pip uninstall llamafactory, or use "
                             "another virtual environment")


def build_wheel(*args, **words):
    _check()
    return build_meta.build_wheel(*args, **words)


def build_editable(*args, **words):
    _check()
    return build_meta.build_editable(*args, **words)
