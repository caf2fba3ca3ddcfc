#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds vmm/plugin.h against the frozen header of a release: what a program built from that one
relies on must still be so, and what came since must be appended by the rules of abi/ABI.md.

  header_gate.py FROZEN_INCLUDE_DIR INCLUDE_DIR

Both headers are read as clang sees them (its syntax tree, and constant expressions that it
evaluates for 64 and 32 bits), so nothing here parses C. One line a complaint, each begins with the
rule. Exit status: 0 compatible; 1 not; 77 with "SKIPPED: reason" where there is no clang."""

import functools
import json
import re
import shutil
import subprocess
import sys

CLANG = "clang"
FLAGS = ["-x", "c", "-std=c11", "-ffreestanding", "-fsyntax-only"]
WIDTHS = ["-m64", "-m32"]
INCLUDE = ["-include", "vmm/plugin.h"]

# Macros that are no constants: the attribute of the entry, and the guard against a second #include.
NOT_CONSTANTS = {"VMM_PLUGIN_EXPORT", "VMM_PLUGIN_H"}
# They come in arrays and have no struct_size (VMM-71).
FIXED_STRUCTS = {"vmm_msr", "vmm_msr_range", "vmm_cpuid_bits"}
# What the types of members and functions are made of; everything else may differ between compilers,
# flags and languages.
ALLOWED_WORDS = re.compile(r"u?int(8|16|32|64)_t|void|char|const|struct|vmm_[a-z0-9_]+")


class Broken(Exception):
    """The header cannot even be read."""


def clang(*flags, source=""):
    """What clang prints for a source in C."""
    run = subprocess.run([CLANG, *FLAGS, *flags, "-"], input=source, capture_output=True, text=True,
                         check=False)
    if run.returncode != 0:
        raise Broken(run.stderr)
    return run.stdout


@functools.cache
def foreign_macros():
    """The lines of the macros that are there without the header."""
    return frozenset(clang("-E", "-dM", "-include", "stdint.h").splitlines())


class Header:
    """The public names of one vmm/plugin.h.

    structs: {struct: {member: type as written}} in the order of declaration
    numbers, texts: {constant: value}; types: {typedef or function: type as written}
    layout: {width: {struct: bytes, (struct, member, "offset" or "size"): bytes}}"""

    def __init__(self, include_dir):
        self.include_dir = include_dir
        self.complaints = []
        self.with_bit_fields = set()
        self.structs, self.types, self.numbers, self.texts, self.layout = {}, {}, {}, {}, {}
        for node in self.tree("", "-m64"):
            self.take(node)
        foreign = foreign_macros()
        for line in clang("-E", "-dM", f"-I{include_dir}", *INCLUDE).splitlines():
            match = re.match(r"#define (\w+)(\()? ?(.*)", line)
            if line in foreign or match[1] in NOT_CONSTANTS:
                continue
            if not match[1].startswith("VMM_"):
                self.complain("VMM-68", f"the macro {match[1]} does not begin with VMM_")
            elif match[2] or not match[3]:
                self.complain("VMM-70", f"macro {match[1]} is not a constant")
            elif match[3].startswith('"'):
                self.texts[match[1]] = match[3].strip('"')
            else:
                self.numbers[match[1]] = None
        for width in WIDTHS:
            self.layout[width] = self.measure(width)
        self.numbers = {name: self.layout[WIDTHS[0]][name] for name in self.numbers}

    def complain(self, rule, text):
        self.complaints.append(f"{rule}: {text}")

    def tree(self, source, width):
        """The top declarations of the header and of what follows it."""
        text = clang("-Xclang", "-ast-dump=json", width, f"-I{self.include_dir}", *INCLUDE,
                     source=source)
        return json.loads(text)["inner"]

    def take(self, node):
        """One declaration of the file, if it is of the contract."""
        name, kind = node.get("name", ""), node["kind"]
        if kind not in ("RecordDecl", "EnumDecl", "TypedefDecl", "FunctionDecl", "VarDecl") or \
                node.get("isImplicit") or re.match(r"__|u?int\w*_t$", name):
            return
        if not re.fullmatch("vmm_[a-z0-9_]*[a-z0-9]", name):
            self.complain("VMM-68", f"the name '{name}' does not begin with vmm_")
        elif kind in ("TypedefDecl", "FunctionDecl"):
            self.types[name] = node["type"]["qualType"]
        elif kind != "RecordDecl" or node["tagUsed"] != "struct":
            self.complain("VMM-68", f"'{name}' is neither struct, typedef nor function")
        elif node.get("completeDefinition"):
            members = [n for n in node["inner"] if n["kind"] == "FieldDecl"]
            self.structs[name] = {n.get("name", "?"): n["type"]["qualType"] for n in members}
            for member in members:
                if member.get("isBitfield"):
                    self.with_bit_fields.add(name)
                    self.complain("VMM-68", f"{name}.{member.get('name', '?')} is a bit-field")

    def evaluate(self, expressions, width):
        """The values of integer constant expressions over the header."""
        source = "".join(f"enum {{ value_{i} = {e} }};\n" for i, e in enumerate(expressions))
        values = []
        for node in self.tree(source, width):
            for constant in node.get("inner", []):
                if constant["kind"] == "EnumConstantDecl" and constant["name"].startswith("value_"):
                    value = constant["inner"][0]
                    while value["kind"] != "ConstantExpr":  # below a cast to the enum's type
                        value = value["inner"][0]
                    values.append(int(value["value"]))
        assert len(values) == len(expressions)
        return values

    def measure(self, width):
        """Sizes and offsets, in bytes, and the values of the constants."""
        questions = {name: f"(long long)({name})" for name in self.numbers}
        for struct, members in self.structs.items():
            if struct in self.with_bit_fields:  # they have no offset
                continue
            questions[struct] = f"sizeof(struct {struct})"
            for member in members:
                questions[(struct, member, "offset")] = \
                    f"__builtin_offsetof(struct {struct}, {member})"
                questions[(struct, member, "size")] = f"sizeof(((struct {struct}*)0)->{member})"
        return dict(zip(questions, self.evaluate(list(questions.values()), width)))

    def same_types(self, declared):
        """Whether the things named have the types that are written beside them: {thing: bool}.
        A thing is an expression of this header."""
        questions = [f"__builtin_types_compatible_p(__typeof__({thing}), __typeof__({written}))"
                     for thing, written in declared.items()]
        return dict(zip(declared, self.evaluate(questions, WIDTHS[0])))


def check_form(header):
    """What holds for any version of the header: no padding, sizes first, types of fixed width."""
    complain = header.complain
    for struct, members in header.structs.items():
        first = next(iter(members.items()), None)
        if struct not in FIXED_STRUCTS and first != ("struct_size", "uint32_t"):
            complain("VMM-66", f"struct {struct} does not begin with uint32_t struct_size")
        for width, layout in header.layout.items():
            if struct not in layout:
                continue
            end = 0
            for member in members:
                if layout[(struct, member, "offset")] != end:
                    complain("VMM-68", f"padding before {struct}.{member} ({width})")
                end = layout[(struct, member, "offset")] + layout[(struct, member, "size")]
            if layout[struct] != end:
                complain("VMM-68", f"struct {struct} ends in padding: {end} of {layout[struct]} "
                                   f"bytes are members ({width})")
    declared = {f"{s}.{m}": t for s, members in header.structs.items() for m, t in members.items()}
    for name, written in (declared | header.types).items():
        for word in re.findall(r"\w+|\.\.\.", written):
            if not ALLOWED_WORDS.fullmatch(word) and not word.isdigit():
                complain("VMM-68", f"the type of {name} has '{word}': {written}")
        if re.search(r"\bchar\b(?! \*)", written):
            complain("VMM-68", f"the type of {name} has a char that is no string: {written}")
    major = header.numbers.get("VMM_PLUGIN_ABI_MAJOR")
    entry = header.texts.get("VMM_PLUGIN_ENTRY_NAME")
    if entry != f"vmm_plugin_v{major}" or entry not in header.types:
        complain("VMM-72", f"the entry of ABI major {major} is '{entry}' or is not declared")


def check_kept(old, new, version):
    """Everything of the frozen header is still there and is what it was."""
    complain = new.complain
    gone = [name for name in old.types if name not in new.types]
    for name in gone:
        complain("VMM-72" if name == old.texts["VMM_PLUGIN_ENTRY_NAME"] else "VMM-68",
                 f"'{name}' of {version} is gone")
    for kind in ("numbers", "texts"):
        for name, value in getattr(old, kind).items():
            now = getattr(new, kind).get(name)
            rule = "VMM-72" if name in ("VMM_PLUGIN_ENTRY_NAME", "VMM_PLUGIN_ABI_MAJOR") else "VMM-70"
            if name != "VMM_PLUGIN_ABI_MINOR" and now != value:
                complain(rule, f"constant {name} was {value} in {version} and is "
                               f"{'gone' if now is None else now}")
    same = {} if gone else {name: written for name, written in old.types.items()
                            if name != "vmm_plugin_entry"}
    for struct, members in old.structs.items():
        if struct not in new.structs:
            complain("VMM-68", f"struct {struct} of {version} is gone")
            gone.append(struct)
            continue
        order = list(new.structs[struct])
        for place, (member, written) in enumerate(members.items()):
            if member not in order:
                complain("VMM-68", f"{struct}.{member} of {version} is gone")
                continue
            same[f"((struct {struct}*)0)->{member}"] = written
            if order.index(member) != place:
                complain("VMM-68", f"{struct}.{member} was member {place} in {version} and is "
                                   f"member {order.index(member)}")
            for width in WIDTHS:
                for what in ("offset", "size"):
                    was = old.layout[width][(struct, member, what)]
                    now = new.layout[width].get((struct, member, what))
                    if now is not None and now != was:
                        complain("VMM-68", f"{struct}.{member} had {what} {was} in {version} and "
                                           f"has {now} ({width})")
        if struct in FIXED_STRUCTS and order != list(members):
            complain("VMM-71", f"struct {struct} comes in arrays and is not what it was")
    if not gone:
        for thing, is_same in new.same_types(same).items():
            if not is_same:
                name = re.sub(r"\(\(struct (\w+)\*\)0\)->", r"\1.", thing)
                complain("VMM-68", f"{name} has another type than in {version}, which had: "
                                   f"{same[thing]}")


def check_appended(old, new, version):
    """What is new has a new minor, and new texts are ids of extensions with their revision."""
    added = [f"{s}.{m}" for s, members in new.structs.items() for m in members
             if m not in old.structs.get(s, {})]
    for kind in ("structs", "types", "numbers", "texts"):
        added += [name for name in getattr(new, kind) if name not in getattr(old, kind)]
    was, now = (h.numbers.get("VMM_PLUGIN_ABI_MINOR", 0) for h in (old, new))
    if added and now <= was:
        new.complain("VMM-68", f"{', '.join(added)}: not in {version}, but the minor is {now}")
    if not added and now != was:
        new.complain("VMM-68", f"the minor is {now}, but nothing was appended to {version}")
    for name, text in new.texts.items():
        if name not in old.texts and not re.fullmatch(r"vmm\.[a-z0-9._-]+/[1-9][0-9]*", text):
            new.complain("VMM-73", f"{name} \"{text}\" is no id of an extension with its revision, "
                                   "as \"vmm.clock/1\" is")


def compare(frozen_dir, include_dir):
    """The complaints, and a line that says what was compared."""
    old, new = Header(frozen_dir), Header(include_dir)
    version = f"{old.numbers['VMM_PLUGIN_ABI_MAJOR']}.{old.numbers['VMM_PLUGIN_ABI_MINOR']}"
    for broken in old.complaints:
        raise Broken(f"the frozen header itself: {broken}")
    check_form(new)
    check_kept(old, new, version)
    check_appended(old, new, version)
    members = sum(len(members) for members in old.structs.values())
    return new.complaints, (f"{len(old.structs)} structs with {members} members, {len(old.types)} "
                            f"types and functions and {len(old.numbers) + len(old.texts)} constants "
                            f"of {version} are what they were")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if not shutil.which(CLANG):
        print(f"SKIPPED: there is no {CLANG}")
        sys.exit(77)
    try:
        complaints, summary = compare(sys.argv[1], sys.argv[2])
    except Broken as broken:
        sys.exit(f"vmm/plugin.h cannot be read: {broken}")
    print("\n".join(complaints) or summary)
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
