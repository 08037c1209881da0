#!/usr/bin/env python3
"""tools/word_table.py on jieba's files cut, mixed up and of another version: refused with the file and line, and no table is left. Run by ctest
(label e2e)."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

root = pathlib.Path(__file__).resolve().parent.parent.parent
start = "P={'B': -0.25, 'E': -3.14e+100, 'M': -3.14e+100, 'S': -1.5}\n"
transition = "P={'B': {'E': -0.5, 'M': -0.9}, 'E': {'B': -0.6, 'S': -0.8}, 'M': {'E': -0.3, 'M': -1.2}, 'S': {'B': -0.7, 'S': -0.6}}\n"
emission = "from __future__ import unicode_literals\n\nP={'B': {'\\u4e00': -3.6}, 'E': {'\\u4e00': -6.0}, 'M': {}, 'S': {}}\n"


class WordTable(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.jieba, self.table = pathlib.Path(self.folder.name) / "jieba", pathlib.Path(self.folder.name) / "table"
        (self.jieba / "finalseg").mkdir(parents=True)
        (self.jieba / "dict.txt").write_text("一 5 m\n一一 3 m\n", encoding="utf-8")
        for name, text in (("start", start), ("trans", transition), ("emit", emission)):
            (self.jieba / f"finalseg/prob_{name}.py").write_text(text)

    def tearDown(self):
        self.folder.cleanup()

    def refused(self, *words):
        done = subprocess.run([sys.executable, root / "tools/word_table.py", self.jieba, self.table], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        for word in (*words, "-DLORAINE_JIEBA=OFF"):
            self.assertIn(word, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertFalse(self.table.exists())

    def test_another_dictionary(self):
        self.refused("differ from those of jieba 0.42.1", "SHA-256")

    def test_lines_of_the_dictionary(self):
        for line in (b"\xe4\xb8\x80\n", b"\xe4\xb8\x80 many m\n", b"\xe4\xb8 4 m\n", b"\xe4\xb8\x80 0 m\n", b"\xe4\xb8\x80 -3 m\n", b"\xe4\xb8\x80 4294967296 m\n",
                     "\U00020000 4 m\n".encode()):
            (self.jieba / "dict.txt").write_bytes("一一 3 m\n".encode() + line)
            self.refused("dict.txt, line 2", "expected")
        (self.jieba / "dict.txt").write_bytes(b"")
        self.refused("dict.txt: holds no word")

    def test_probabilities(self):
        for name, text, found in (("emit", emission[:60], "prob_emit.py"), ("emit", "Q={}\n", "assigns nothing to P"), ("start", "P={'B': -0.25}\n", "of the states B, E, M and S"),
                                  ("trans", "P=3\n", "of the states"), ("start", start.replace("-1.5", "'much'"), "of the states"),
                                  ("start", f"P=open({str(self.table)!r}, 'w')\n", "expected a Python literal")):
            path = self.jieba / f"finalseg/prob_{name}.py"
            whole = path.read_text()
            path.write_text(text)
            self.refused(found)
            path.write_text(whole)

    def test_absent_files(self):
        for name in ("finalseg/prob_trans.py", "dict.txt"):
            (self.jieba / name).unlink()
            self.refused(name)


if __name__ == "__main__":
    unittest.main()
