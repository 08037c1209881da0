#!/usr/bin/env python3
"""Packages of the program: the Debian package and the archive with all libraries, in folders that only have them. Run by ctest (label e2e)."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

build = pathlib.Path(tiny.program).resolve().parent
PAGES = ("share/man/man1/loraine.1", "share/bash-completion/completions/loraine", "share/zsh/vendor-completions/_loraine", "share/fish/vendor_completions.d/loraine.fish")


def done(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **more).stdout


class Packages(unittest.TestCase):
    def setUp(self):
        self.holder = tempfile.TemporaryDirectory()
        self.work = pathlib.Path(self.holder.name)

    def tearDown(self):
        self.holder.cleanup()

    def package(self, kind, *tools):
        for tool in tools:
            if not shutil.which(tool):
                self.skipTest(f"{tool} is not there")
        return done(tiny.root / "tools/package.sh", kind, env={**os.environ, "BUILD": str(build), "XZ_OPT": "-1"}).split()[-1]

    def holds_pages(self, prefix):
        for page in PAGES:
            self.assertGreater((prefix / page).stat().st_size, 500, page)

    def test_debian(self):
        package = self.package("deb", "dpkg-shlibdeps", "dpkg-deb")
        fields = done("dpkg-deb", "--field", package)
        for text in ("Package: loraine", "Version: 0.1.0", "libdnnl2", "libcairo2", "libgomp1", "Recommends: libcurl4"):
            self.assertIn(text, fields)
        done("dpkg-deb", "--extract", package, self.work)
        self.holds_pages(self.work / "usr")
        self.assertEqual(done(self.work / "usr/bin/loraine", "version"), "loraine 0.1.0\n")
        self.assertFalse((self.work / "usr/include").exists())
        self.assertLess(pathlib.Path(package).stat().st_size, 15 << 20)

    def test_archive(self):
        archive = self.package("tar", "patchelf", "xz")
        done("tar", "-xf", archive, "-C", self.work)
        folder = next(self.work.iterdir())
        for where in (folder, self.work / "there"):
            if where != folder:
                for _ in range(2):  # over itself, too
                    self.assertIn("loraine 0.1.0", done(folder / "install.sh", where, env={"PATH": os.environ["PATH"]}))
            self.holds_pages(where)
            found = [line.split()[2] for line in done("ldd", where / "bin/loraine").splitlines() if "=> /" in line]
            self.assertGreater(len(found), 20)
            outside = [path for path in found if not os.path.realpath(path).startswith(str(where.resolve()))]
            self.assertEqual({pathlib.Path(path).name.split(".so")[0] for path in outside}, {"libc", "libm"})
            self.assertEqual(done(where / "bin/loraine", "version", env={}), "loraine 0.1.0\n")
        model, data = tiny.write_model(self.work / "model"), tiny.write_rows(self.work / "data")
        done(self.work / "there/bin/loraine", *tiny.train_arguments(model, data, self.work / "out", max_steps=2, plot_loss="true"), env={"HOME": str(self.work)})
        self.assertTrue((self.work / "out/training_loss.png").exists())


if __name__ == "__main__":
    unittest.main()
