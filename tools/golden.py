#!/usr/bin/env python3
"""Runs recorded cases of transformers + PEFT through build/loraine and prints the worst figure of each kind. Called by ./dev golden.

usage: golden.py DIR [NAME...] [--device cuda]
                                   golden_cases.py, golden_variants.py, golden_quantised.py, golden_runs.py, golden_adapters.py, golden_methods.py, golden_data.py and
                                   golden_units.py say what a case is.
                                   Without DIR it ends with 77, which ctest counts as skipped. The last line counts what is equal, what is refused as
                                   it was recorded, and what is left out, and why. With --device cuda everything that has the setting computes on the
                                   GPU, in a build without CUDA code on the emulated one; what has no GPU code is counted by name.
"""
import collections
import os
import pathlib
import sys
import tempfile

import golden_adapters
import golden_cases
import golden_data
import golden_files
import golden_methods
import golden_quantised
import golden_runs
import golden_units
import golden_variants

limits = {"logits": 1e-4, "loss": 1e-5, "gradients": 1e-4, "run losses": 1e-3, "final adapter": 1e-3, "merged weights": 1e-6, "greedy tokens": 0, "ranks": 0, "dequantised weights apart": 0,
          "gradient norms": 1e-3, "learning rates": 1e-9, "results": 1e-3,
          "preferences": 1e-3, "encoded lines apart": 0, "unit tests failed": 0}


def main():
    words = sys.argv[1:]
    if "--device" in words:
        at = words.index("--device")
        golden_files.device = words[at + 1]
        del words[at : at + 2]
        if golden_files.device == "cuda":
            os.environ.setdefault("LORAINE_GPU", "emulated")
    top, names = pathlib.Path(words[0]).absolute(), words[1:]
    if not top.is_dir():
        print(f"golden: {top} is not there, so its recorded cases are not run")
        return 77
    kinds = [golden_cases, golden_variants, golden_quantised, golden_runs, golden_adapters]
    kinds += [] if golden_files.device else [golden_methods, golden_data, golden_units]  # which have no GPU code, or compute nothing
    runners = {case: kind.run_case for kind in kinds for case in kind.cases(top)}
    cases = [case for case in runners if not names or case.name in names]
    if not cases:
        print(f"golden: no case (a folder with model/, lora/ and base.safetensors) under {top}", file=sys.stderr)
        return 2
    worst, failed, equal = {}, 0, 0
    no_code = collections.Counter()
    for case in cases:
        here, trouble = {}, None
        lines = 0
        with tempfile.TemporaryDirectory() as work:
            try:
                for kind, figure in runners[case](case, pathlib.Path(work)):
                    here[kind] = max(here.get(kind, 0), figure)
                    lines += kind == "encoded lines apart"
            except golden_files.NoGpuCode as error:
                no_code[str(error)] += 1
                print(f"none {case.relative_to(top)}: {error} has no GPU code", flush=True)
                continue
            except (RuntimeError, OSError, KeyError) as error:
                trouble = f"{type(error).__name__}: {error}"
        over = [kind for kind, figure in here.items() if figure > limits[kind]]
        failed += bool(trouble or over)
        equal += lines if case in golden_data.lines else not (trouble or over)
        figures = "  ".join(f"{kind} {figure:.2g}" for kind, figure in here.items())
        print(f"{'FAIL' if trouble or over else 'ok':4} {case.relative_to(top)}: {figures}" + (f"  | {trouble}" if trouble else ""), flush=True)
        for kind, figure in here.items():
            worst[kind] = max(worst.get(kind, (0, "")), (figure, case.name))
    print("\nworst of each kind")
    for kind, (figure, name) in worst.items():
        print(f"  {kind:15} {figure:.3g} (limit {limits[kind]:g}) {name}")
    left = golden_data.left + golden_runs.left(top)
    print(f"golden: {equal} cases equal, {golden_data.refused} refused as recorded, {left.total()} left, {failed} not equal")
    for why, count in no_code.most_common():
        print(f"  no GPU code: {count} {why}")
    for why, count in left.items():
        print(f"  left: {count} {why}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
