#!/usr/bin/env python3
"""Adds up what ctest and the GoogleTest programs recorded in the given folders. Called by ./dev test.
The last line is 'N passed, N failed'; a ctest entry without GoogleTest counts (a script, or a program that crashed) counts as one."""
import pathlib
import sys
import xml.etree.ElementTree as xml


def count(folder):
    passed = failed = skipped = 0
    record = folder / "ctest.junit"
    if not record.exists():
        print(f"{folder}: no test record")
        return 0, 1, 0
    for entry in xml.parse(record).getroot().iter("testcase"):
        good = entry.get("status") == "run"
        if entry.find("skipped") is not None:
            skipped += 1
            continue
        counts = folder / f"{entry.get('name')}_tests.xml"
        bad_here = 0
        if counts.exists():
            for case in xml.parse(counts).getroot().iter("testcase"):
                if case.get("result") == "skipped" or case.find("skipped") is not None:
                    skipped += 1
                elif case.find("failure") is not None or case.find("error") is not None:
                    bad_here += 1
                    print(f"failed: {case.get('classname')}.{case.get('name')}")
                elif case.get("status") == "run":
                    passed += 1
        elif good:
            passed += 1
        if not good and bad_here == 0:
            print(f"failed: {entry.get('name')} ({folder})")
            bad_here = 1
        failed += bad_here
    return passed, failed, skipped


totals = [sum(column) for column in zip(*(count(pathlib.Path(folder)) for folder in sys.argv[1:]))]
if totals[2]:
    print(f"{totals[2]} skipped (recorded cases or programs that are not on this machine)")
print(f"{totals[0]} passed, {totals[1]} failed")
sys.exit(1 if totals[1] or not totals[0] else 0)
