"""What of LLaMA-Factory's recorded values no command shows: how settings are read, orders that depend on seeds, tool formats, prompts for generation. The unit tests that read
them, where they are built. Called by golden.py."""
import subprocess

from golden_files import program

tests = {"config_values.json": ("cli_tests", "Arguments.ValuesEqualTheRecordedOnes:Arguments.EveryRecordedKeyIsKnownWithItsDefault"), "orders.json": ("data_tests", "Orders.RecordedOrders"),
         "tools.json": ("data_tests", "Tools.RecordedFormats"), "encode.jsonl.xz": ("data_tests", "EncodeGolden.*")}


def cases(top):
    return sorted(path for name in tests for path in top.rglob(name) if (program.parent / tests[name][0]).exists())


def run_case(case, work):
    """Yields (kind, figure)."""
    name, chosen = tests[case.name]
    done = subprocess.run([program.resolve().parent / name, f"--gtest_filter={chosen}"], capture_output=True, text=True)
    if done.returncode or "[  PASSED  ] 0 tests" in done.stdout or "[  SKIPPED ]" in done.stdout:
        raise RuntimeError(f"{name} {chosen}: {done.stdout.strip().splitlines()[-1:]}")
    yield "unit tests failed", 0
