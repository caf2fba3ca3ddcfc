# SPDX-License-Identifier: MIT
"""Do the rooms include only what ARCHITECTURE.md says that they may?
  python3 tests/lint/arrows.py                  all tracked files
  python3 tests/lint/arrows.py FOLDER FILE...   these, as if they were in FOLDER"""

import pathlib
import re
import subprocess
import sys

# folder: the rooms that its files may include besides their own. A file belongs to the longest folder
# of this table that it is in. Tests may include everything.
MAY_INCLUDE = {
    "abi/include": (),
    "abi/examples": ("abi/include",),
    "abi/host_kit": ("abi/include",),
    "plugin": ("abi/include",),
    "plugin/package": (),
    "plugin/tool": ("plugin", "abi/include", "abi/host_kit", "host_preload"),
    "host_preload": ("abi/include", "abi/host_kit"),
    "integrations": ("abi/include", "abi/host_kit"),
    "host_stub": (),
    "host_stub/kvm": ("abi/include", "abi/host_kit", "host_stub"),
    "host_stub/sim": ("abi/include", "abi/host_kit", "host_stub", "host_stub/kvm"),
    "host_stub/stub_vmm": ("abi/include", "abi/host_kit", "host_stub", "host_stub/kvm"),
    "host_stub/check/host/recorder": ("abi/include",),
    "host_stub/check": ("abi/include", "abi/host_kit", "host_stub", "host_stub/kvm", "host_stub/sim",
                        "host_stub/stub_vmm"),
    "host_stub/cli": ("abi/include", "abi/host_kit", "plugin/tool", "host_stub", "host_stub/kvm",
                      "host_stub/sim", "host_stub/stub_vmm", "host_stub/check"),
}
INCLUDE = re.compile(r'\s*#\s*include\s+["<]([^">]+)[">]')


def room_of(path):
    """The folder of MAY_INCLUDE that a file belongs to; for others the first part of its path."""
    parts = path.parts[:-1]
    for length in range(len(parts), 0, -1):
        if (folder := "/".join(parts[:length])) in MAY_INCLUDE:
            return folder
    return parts[0] if parts else ""


def target(name, folder, files):
    """The file of the project that an include means; None: one of the system."""
    if (beside := folder / name) in files:
        return beside
    return next((file for file in files if file.match(f"*/{name}") or str(file) == name), None)


def findings(file, folder, files):
    room = room_of(folder / "file")
    if room not in MAY_INCLUDE:
        yield f"{file}: the table of tests/lint/arrows.py has no line for {room}"
        return
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not (match := INCLUDE.match(line)) or not (found := target(match[1], folder, files)):
            continue
        other = room_of(found)
        if other not in (room, *MAY_INCLUDE[room]):
            yield f"{file}:{number}: {room} may not include {other} ({found})"


def main(words):
    tracked = subprocess.run(["git", "ls-files", "*.c", "*.h", "*.cpp", "*.hpp"], check=True,
                             capture_output=True, text=True).stdout.split()
    # the frozen releases have headers of the same names
    files = [pathlib.Path(file) for file in tracked
             if not file.startswith(("tests/abi/v", "tests/lint/"))]
    if words:
        chosen = [(pathlib.Path(file), pathlib.Path(words[0])) for file in words[1:]]
    else:
        chosen = [(file, file.parent) for file in files if file.parts[0] != "tests"]
    wrong = False
    for file, folder in chosen:
        for line in findings(file, folder, files):
            print(line)
            wrong = True
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
