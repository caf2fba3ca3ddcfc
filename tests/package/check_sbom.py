#!/usr/bin/env python3
"""An SBOM has the fields that SPDX 2.3 wants, and says what is in the package.

  check_sbom.py SBOM ROOT

ROOT is the package, unpacked: its programs and libraries must be those of the SBOM, by path and
build id, and have inside what it says, as far as the names in the stripped files tell. The check is
tried on the SBOM with one field wrong at a time, too.
"""
import copy
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse

LICENCES = {"MIT", "BSL-1.0", "CC0-1.0", "GPL-3.0-or-later WITH GCC-exception-3.1"}
# names of types that a file keeps when it is stripped
MARKS = {
    "Inside-boost-program-options": b"N5boost15program_options",
    "Inside-fmt": b"N3fmt2v",
    "Inside-nlohmann-json": b"N8nlohmann",
    "Inside-libstdcxx": b"St9exception",
}


def matches(pattern, value):
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def form_faults(sbom):
    """What SPDX 2.3 wants and does not find: clauses 6, 7 and 11 of the specification."""
    if sbom.get("spdxVersion") != "SPDX-2.3" or sbom.get("dataLicense") != "CC0-1.0":
        yield "spdxVersion, dataLicense"
    if sbom.get("SPDXID") != "SPDXRef-DOCUMENT" or not sbom.get("name"):
        yield "SPDXID or name of the document"
    if not matches(r"(urn|https?):[^#\s]+", sbom.get("documentNamespace")):
        yield "documentNamespace"
    creation = sbom.get("creationInfo", {})
    if not matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", creation.get("created")):
        yield "creationInfo.created"
    if not creation.get("creators") or not all(
            matches(r"(Tool|Person|Organization): .+", each) for each in creation["creators"]):
        yield "creationInfo.creators"
    known = {"SPDXRef-DOCUMENT"}
    for package in sbom.get("packages", []):
        name = package.get("name")
        if not name or not package.get("versionInfo"):
            yield f"a package without name or version: {package}"
        if not matches(r"SPDXRef-[A-Za-z0-9.-]+", package.get("SPDXID")):
            yield f"SPDXID of {name}"
        if package.get("SPDXID") in known:
            yield f"{package.get('SPDXID')} twice"
        known.add(package.get("SPDXID"))
        if not package.get("downloadLocation") or package.get("filesAnalyzed") is not False:
            yield f"downloadLocation or filesAnalyzed of {name}"
        if package.get("licenseDeclared") not in LICENCES:
            yield f"licence of {name}: {package.get('licenseDeclared')}"
        for reference in package.get("externalRefs", []):
            url = reference.get("referenceLocator", "")
            if not matches(r"pkg:(deb|rpm)/[a-z]+/[^@/+]+@[^@/+]+", url) or \
                    urllib.parse.unquote(url).rpartition("@")[2] != package.get("versionInfo"):
                yield f"package URL of {name}: {url}"
    reached = set()
    for relationship in sbom.get("relationships", []):
        ends = relationship.get("spdxElementId"), relationship.get("relatedSpdxElement")
        if relationship.get("relationshipType") not in ("DESCRIBES", "CONTAINS", "STATIC_LINK"):
            yield f"relationshipType: {relationship}"
        if not known.issuperset(ends):
            yield f"a relationship of what is not there: {relationship}"
        reached.add(ends[1])
    for lost in known - reached - {"SPDXRef-DOCUMENT"}:
        yield f"{lost} is related to nothing"


def build_id(path):
    notes = subprocess.run(["readelf", "-n", path], check=True, capture_output=True, text=True)
    return re.search(r"Build ID: ([0-9a-f]+)", notes.stdout).group(1)


def content_faults(sbom, root):
    """What the SBOM says of the package otherwise than the package itself."""
    there = {}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and "debug" not in path.parts:
            content = path.read_bytes()
            if content.startswith(b"\x7fELF"):
                there["./" + str(path.relative_to(root))] = path, content
    files = {each["packageFileName"]: each
             for each in sbom["packages"] if "packageFileName" in each}
    for name in sorted(files.keys() ^ there.keys()):
        yield f"{name} is only in the {'SBOM' if name in files else 'package'}"
    inside = {(each["spdxElementId"], each["relatedSpdxElement"])
              for each in sbom["relationships"] if each["relationshipType"] == "STATIC_LINK"}
    for name in files.keys() & there.keys():
        path, content = there[name]
        if build_id(path) not in files[name].get("comment", ""):
            yield f"{name} has another build id: {build_id(path)}"
        for component, mark in MARKS.items():
            said = (files[name]["SPDXID"], "SPDXRef-" + component) in inside
            if said != (mark in content):
                yield f"{name}: {component} is {'not ' if said else ''}inside"


def faults(sbom, root):
    found = list(form_faults(sbom))
    return found or list(content_faults(sbom, root))


def wrong_ones(sbom):
    """The SBOM with one thing wrong each."""
    for field in ("spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace",
                  "creationInfo"):
        wrong = copy.deepcopy(sbom)
        del wrong[field]
        yield f"no {field}", wrong
    for index, field in ((0, "name"), (0, "licenseDeclared"), (1, "SPDXID"), (1, "versionInfo"),
                         (1, "downloadLocation"), (1, "packageFileName"), (1, "comment")):
        wrong = copy.deepcopy(sbom)
        del wrong["packages"][index][field]
        yield f"no {field} of package {index}", wrong
    for kind in ("DESCRIBES", "CONTAINS"):
        wrong = copy.deepcopy(sbom)
        wrong["relationships"] = [each for each in wrong["relationships"]
                                  if each["relationshipType"] != kind]
        yield f"no {kind}", wrong
    for index, each in enumerate(sbom["relationships"]):
        if each["relatedSpdxElement"] == "SPDXRef-Inside-libstdcxx":
            wrong = copy.deepcopy(sbom)
            del wrong["relationships"][index]
            yield f"{each['spdxElementId']} without libstdc++", wrong
    for index, each in enumerate(sbom["packages"]):
        for reference in range(len(each.get("externalRefs", []))):
            wrong = copy.deepcopy(sbom)
            wrong["packages"][index]["externalRefs"][reference]["referenceLocator"] += "1"
            yield f"another version in the URL of {each['name']}", wrong


def main():
    sbom = json.loads(pathlib.Path(sys.argv[1]).read_text())
    root = pathlib.Path(sys.argv[2])
    found = faults(sbom, root)
    for what, wrong in wrong_ones(sbom):
        if not faults(wrong, root):
            found.append(f"the check does not see: {what}")
    for fault in found:
        print(f"{sys.argv[1]}: {fault}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
