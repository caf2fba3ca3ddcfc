#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The gate of header_gate.py against headers that someone might write: legal ones pass, each broken
one is refused with the complaint that fits.

  header_gate_test.py FROZEN_INCLUDE_DIR CASE
  header_gate_test.py --list

The headers are made from the frozen one, which never changes, so that the cases cannot rot; each
edit must find its text exactly once. Exit status: 0 as expected, 1 not, 77 no clang."""

import os
import shutil
import sys
import tempfile

import header_gate

MINOR = ("ABI_MINOR 0u", "ABI_MINOR 1u")
INCLUDE = "#include <stdint.h>\n"
LEVEL = "#define VMM_LOG_ERROR ((uint32_t)100)\n"
ENTRY = "const struct vmm_plugin* vmm_plugin_v1(void);"
# the last members of structs
MSR = "  uint64_t value; /* see the flags */"
RANGE = "  uint32_t count; /* 1 or more */"
VCPU = "  const struct vmm_msr_sink* batch;"
HOOKS = "  int32_t (*vcpu_reset)(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu);"
HOST = "  const void* (*get_extension)(void* host_ctx, const char* id);"
PLUGIN = "  const void* (*get_extension)(const char* id);"


def behind(line, *lines):
    return (f"{line}\n", "\n".join([line, *lines]) + "\n")


# name: (edits, the complaint)
LEGAL = {
    "nothing": [],
    "words": [("uint64_t length);", "uint64_t bytes);"), ("A finished line", "A whole line")],
    "appended_members": [MINOR, behind(VCPU, "uint64_t tag;"), behind(HOOKS, "void (*idle)(void*);"),
                         behind(HOST, "uint64_t (*clock)(void* host_ctx);"),
                         behind(PLUGIN, "const char* homepage;")],
    "appended_array_struct": [MINOR, (INCLUDE, INCLUDE + "struct vmm_cpuid_bits { uint32_t leaf, "
                                               "subleaf, reg, mask; };\n")],
    "appended_names": [MINOR, (LEVEL, LEVEL + '#define VMM_LOG_TRACE ((uint32_t)500)\n'
                                              '#define VMM_CLOCK_ID "vmm.clock/1"\n'),
                       (INCLUDE, INCLUDE + "struct vmm_clock { uint32_t struct_size, flags; };\n")],
}
BROKEN = {
    # ---- members
    "member_moved": ([("uint32_t flags; /* 0 */\n  uint32_t reserved;",
                       "uint32_t reserved;\n  uint32_t flags; /* 0 */")],
                     "VMM-68: vmm_vcpu.flags had offset 8 in 1.0 and has 12 (-m64)"),
    "member_resized": ([("uint32_t capacity;", "uint16_t capacity, more;")],
                       "VMM-68: vmm_error.capacity had size 4 in 1.0 and has 2 (-m64)"),
    "member_inserted": ([MINOR, behind("  void* host_ctx;", "void* more;")],
                        "VMM-68: vmm_host.name was member 5 in 1.0 and is member 6"),
    "member_renamed": ([("void* sink_ctx; ", "void* cookie; ")],
                       "VMM-68: vmm_msr_sink.sink_ctx of 1.0 is gone"),
    "reserved_reused": ([MINOR, ("  uint32_t reserved;\n  void* sink_ctx",
                                 "  uint32_t limit;\n  void* sink_ctx")],
                        "VMM-68: vmm_msr_sink.reserved of 1.0 is gone"),
    "member_removed": ([(PLUGIN + "\n", "")], "VMM-68: vmm_plugin.get_extension of 1.0 is gone"),
    "sign_changed": ([("uint32_t max_vcpus;", "int32_t max_vcpus;")],
                     "VMM-68: vmm_vm.max_vcpus has another type than in 1.0, which had: uint32_t"),
    # ---- functions and handles
    "parameter_narrowed": ([("uint64_t length);", "uint32_t length);")],
                           "VMM-68: vmm_host.log has another type"),
    "parameter_appended": ([(HOOKS, HOOKS.replace(" vcpu)", " vcpu, uint32_t why)"))],
                           "VMM-68: vmm_hooks.vcpu_reset has another type"),
    "parameter_less_const": ([(HOOKS, HOOKS.replace("const struct", "struct"))],
                             "VMM-68: vmm_hooks.vcpu_reset has another type"),
    "result_changed": ([("void (*vm_destroyed)", "int32_t (*vm_destroyed)")],
                       "VMM-68: vmm_hooks.vm_destroyed has another type"),
    "handle_untyped": ([("struct vmm_vm_opaque* vmm_vm_handle", "void* vmm_vm_handle")],
                       "VMM-68: vmm_vm_handle has another type"),
    "entry_takes_the_host": ([("vmm_plugin_v1(void)", "vmm_plugin_v1(const struct vmm_host*)")],
                             "VMM-68: vmm_plugin_v1 has another type"),
    # ---- constants
    "constant_renumbered": ([("VMM_LOG_INFO ((uint32_t)300)", "VMM_LOG_INFO ((uint32_t)250)")],
                            "VMM-70: constant VMM_LOG_INFO was 300 in 1.0 and is 250"),
    "constant_removed": ([("#define VMM_MSR_REQUIRED ((uint32_t)1u << 1)\n", "")],
                         "VMM-70: constant VMM_MSR_REQUIRED was 2 in 1.0 and is gone"),
    "marker_renamed": ([('"vmm_plugin_host_v1"', '"vmm_plugin_host"')],
                       "VMM-70: constant VMM_PLUGIN_HOST_MARKER_NAME was vmm_plugin_host_v1"),
    # ---- what never changes
    "msr_grown": ([MINOR, behind(MSR, "uint64_t more;")],
                  "VMM-71: struct vmm_msr comes in arrays and is not what it was"),
    "range_grown": ([MINOR, behind(RANGE, "uint32_t more;")],
                    "VMM-71: struct vmm_msr_range comes in arrays and is not what it was"),
    # ---- appends
    "append_without_minor": ([behind(VCPU, "uint64_t tag;")],
                             "VMM-68: vmm_vcpu.tag: not in 1.0, but the minor is 0"),
    "constant_without_minor": ([(LEVEL, LEVEL + "#define VMM_LOG_TRACE ((uint32_t)500)\n")],
                               "VMM-68: VMM_LOG_TRACE: not in 1.0, but the minor is 0"),
    "minor_without_append": ([MINOR],
                             "VMM-68: the minor is 1, but nothing was appended to 1.0"),
    "padding_at_the_end": ([MINOR, behind(VCPU, "uint32_t tag;")],
                           "VMM-68: struct vmm_vcpu ends in padding"),
    "padding_for_32_bits_only": ([MINOR, behind(VCPU, "uint32_t tag;", "void* more_ctx;")],
                                 "VMM-68: padding before vmm_vcpu.more_ctx (-m64)"),
    "stdbool_member": ([MINOR, (INCLUDE, INCLUDE + "#include <stdbool.h>\n"),
                        behind(VCPU, "bool live;", "uint8_t more[7];")],
                       "VMM-68: the type of vmm_vcpu.live has '_Bool': _Bool"),
    "size_t_member": ([MINOR, (INCLUDE, INCLUDE + "#include <stddef.h>\n"),
                       behind(VCPU, "size_t tag;")],
                      "VMM-68: the type of vmm_vcpu.tag has 'size_t': size_t"),
    "long_parameter": ([MINOR, behind(HOOKS, "void (*idle)(void* ctx, long time);")],
                       "VMM-68: the type of vmm_hooks.idle has 'long'"),
    "varargs": ([MINOR, behind(HOST, "void (*logf)(void* host_ctx, const char* format, ...);")],
                "VMM-68: the type of vmm_host.logf has '...'"),
    "enum_member": ([MINOR, behind(VCPU, "enum vmm_why { vmm_cold } why;", "uint32_t more;")],
                    "VMM-68: the type of vmm_vcpu.why has 'enum': enum vmm_why"),
    "enum_of_its_own": ([MINOR, (INCLUDE, INCLUDE + "enum vmm_why { vmm_cold };\n")],
                        "VMM-68: 'vmm_why' is neither struct, typedef nor function"),
    "bit_field": ([MINOR, behind(VCPU, "uint64_t live : 1, more : 63;")],
                  "VMM-68: vmm_vcpu.live is a bit-field"),
    "struct_without_its_size": ([MINOR, (INCLUDE, INCLUDE + "struct vmm_clock { uint64_t now; };\n")],
                                "VMM-66: struct vmm_clock does not begin with uint32_t struct_size"),
    "name_of_another_house": ([MINOR, (LEVEL, LEVEL + "#define PMU_LOG ((uint32_t)500)\n")],
                              "VMM-68: the macro PMU_LOG does not begin with VMM_"),
    # ---- what needs a new symbol, or a new revision
    "entry_name_changed": ([('"vmm_plugin_v1"', '"vmm_plugin_v2"')],
                           "VMM-72: constant VMM_PLUGIN_ENTRY_NAME was vmm_plugin_v1 in 1.0"),
    "entry_renamed": ([(ENTRY, ENTRY.replace("v1", "v2"))], "VMM-72: 'vmm_plugin_v1' of 1.0 is gone"),
    "major_raised_alone": ([("ABI_MAJOR 1u", "ABI_MAJOR 2u")],
                           "VMM-72: the entry of ABI major 2 is 'vmm_plugin_v1'"),
    "extension_without_revision": ([MINOR, (LEVEL, LEVEL + '#define VMM_CLOCK_ID "vmm.clock"\n')],
                                   'VMM-73: VMM_CLOCK_ID "vmm.clock" is no id'),
}
ALL = {f"legal/{name}": (edits, None) for name, edits in LEGAL.items()}
ALL |= {f"broken/{name}": case for name, case in BROKEN.items()}


def edited(text, edits):
    for old, new in edits:
        if text.count(old) != 1:
            sys.exit(f"the frozen header has {text.count(old)} times, not once: {old}")
        text = text.replace(old, new)
    return text


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(ALL))
        return
    frozen, (edits, expected) = sys.argv[1], ALL[sys.argv[2]]
    if not shutil.which(header_gate.CLANG):
        print(f"SKIPPED: there is no {header_gate.CLANG}")
        sys.exit(77)
    with open(os.path.join(frozen, "vmm/plugin.h"), encoding="utf-8") as file:
        text = edited(file.read(), edits)
    with tempfile.TemporaryDirectory() as include_dir:
        os.mkdir(os.path.join(include_dir, "vmm"))
        with open(os.path.join(include_dir, "vmm/plugin.h"), "w", encoding="utf-8") as file:
            file.write(text)
        complaints, summary = header_gate.compare(frozen, include_dir)
    print("\n".join(complaints) or summary)
    if expected is None:
        sys.exit(bool(complaints))
    if not any(complaint.startswith(expected) for complaint in complaints):
        sys.exit(f"expected this complaint: {expected}")


if __name__ == "__main__":
    main()
