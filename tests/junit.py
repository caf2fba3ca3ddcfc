"""What ctest --output-junit wrote, for tests/run.sh.

    junit.py FILE

Prints one line "PASSED FAILED SKIPPED", then a line "failed NAME" or "skipped NAME: REASON" of each
test that did not pass. The reason is what the test said after "SKIPPED: ".
"""
import re
import sys
import xml.etree.ElementTree as ElementTree


def reason(case):
    said = re.search(r"SKIPPED: (.*)", case.findtext("system-out") or "")
    return said[1].strip() if said else "no reason said"


def main():
    lines, counts = [], {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
        name, status = case.get("name"), case.get("status")
        if status == "run":
            result = "passed"
        elif status == "notrun" and "SKIP" in case.find("skipped").get("message", ""):
            result = "skipped"
            lines.append(f"skipped {name}: {reason(case)}")
        else:  # a test whose program is missing is "notrun", too
            result = "failed"
            lines.append(f"failed {name}")
        counts[result] += 1
    print(*counts.values())
    print("\n".join(lines))


if __name__ == "__main__":
    main()
