// SPDX-License-Identifier: MIT
#include "check/rules.hpp"

namespace host_stub {
namespace {

constexpr Rule kRules[] = {
    {1, "the plugin exports vmm_plugin_v1 and no other symbol"},
    {2, "the entry is pure and returns the same descriptor each time"},
    {3, "the descriptor is constant and well formed"},
    {4, "the host refuses what is no plugin of this ABI, with words"},
    {5, "the host loads with RTLD_NOW | RTLD_LOCAL, before its sandbox"},
    {6, "the plugin's file is fit to be loaded and unloaded"},
    {7, "a VMM that calls the hooks exports vmm_plugin_host_v1"},
    {8, "create refuses a host table that is too small, foreign or incomplete"},
    {9, "create does without any optional callback"},
    {10, "create registers exactly once, and nothing else does"},
    {11, "the host copies the hook table and refuses a second and a wrong one"},
    {12, "a create that did not register counts as failed"},
    {13, "a failed create leaves nothing, and may be repeated"},
    {14, "create passes on why register_hooks failed"},
    {15, "options are key=value with doubled commas; unknown keys are refused"},
    {16, "options and host table stay valid and unchanged until destroy returns"},
    {17, "instances share nothing"},
    {18, "destroy comes once, after every vm_destroyed, and is the end"},
    {19, "every callback works on any thread, in create and in hooks"},
    {20, "the plugin reaches KVM only through the host, by handles that are valid"},
    {21, "the host passes ioctls and their results on unchanged"},
    {22, "the plugin repeats an ioctl that was interrupted"},
    {23, "log messages are finished lines, and log does not block"},
    {24, "an unknown log level counts as the next lower known one"},
    {25, "get_cpuid fills all registers, or says -ENOENT"},
    {26, "get_extension returns NULL for an id that it does not know"},
    {27, "a hook that is NULL is not called, and all else goes on"},
    {28, "vm_created comes once a VM, before its first vCPU"},
    {29, "several VMs live side by side, each behind its own vm_ctx"},
    {30, "a VM that vm_created refused is not started and gets no hook"},
    {31, "vm_destroyed comes once a VM, as its last hook"},
    {32, "vcpu_reset comes at creation and at each reset, before the vCPU runs"},
    {33, "vcpu_reset is harmless to repeat"},
    {34, "a vCPU's index is below max_vcpus and stays the same"},
    {35, "a vCPU whose reset failed does not run on, unless the host decides so"},
    {36, "msr_list_build comes after vm_created and gives the same answer each time"},
    {37, "what may overlap does, and nothing else; no thread is special"},
    {38, "no hook is called from a signal handler or cancelled"},
    {39, "the plugin starts no thread and keeps no handler, mask or thread-local"},
    {40, "S1: no open, exec, clone, dlopen or socket"},
    {41, "S2: no allocation, throw, lock or system call"},
    {42, "what S2 needs is allocated in vm_created"},
    {43, "results are 0 or a negated errno; a positive one counts as -EPROTO"},
    {44, "an error buffer is prepared by its caller, or NULL"},
    {45, "an error text stays in its buffer, and belongs to an error"},
    {46, "no exception crosses the boundary"},
    {47, "a sink takes all entries in order, or none"},
    {48, "a sink is used only during the call that brought it"},
    {49, "entries of a reset batch have flags 0"},
    {50, "a batch is written in order, behind the host's defaults, if the hook returned 0"},
    {51, "a short count of KVM_SET_MSRS is not a success"},
    {52, "at most 255 entries a KVM_SET_MSRS, in order across calls"},
    {53, "a full batch is never a success with registers unwritten"},
    {54, "vmm_msr has the layout of kvm_msr_entry"},
    {55, "the MSR list is in an order that is safe to restore in"},
    {56, "SAVED: read at save, written masked at restore, once a register"},
    {57, "without SAVED: the constant is written at restore"},
    {58, "REQUIRED: a restore that loses the value fails"},
    {59, "after an error of msr_list_build the state is not taken for whole"},
    {60, "a host with an MSR filter of its own offers deny_msrs"},
    {61, "denied ranges stay denied for the life of the VM"},
    {62, "deny_msrs comes in vm_created only, with ranges that exist"},
    {63, "who allocates, frees; pointers are valid for their call"},
    {64, "unloading comes after destroy of every instance, or never"},
    {65, "after dlclose nothing of the plugin is mapped"},
    {66, "struct_size is the writer's sizeof, reserved fields are 0"},
    {67, "a reader takes larger and smaller structs"},
    {68, "members are only appended, and structs have no padding"},
    {69, "0 in an appended member means the behaviour before it"},
    {70, "constants are never renumbered or reused"},
    {71, "vmm_msr, vmm_msr_range and vmm_cpuid_bits never change"},
    {72, "what cannot grow gets a new entry symbol"},
    {73, "an extension's id ends in its revision"},
    {74, "the header compiles everywhere and includes only <stdint.h>"},
    {75, "hidden CPUID bits stay hidden for the life of the VM"},
    {76, "hide_cpuid comes in vm_created only, with bits that exist"},
    {77, "get_supported_cpuid fills all registers, or says -ENOENT"},
    {78, "vmm.guest_pmu/1 says unsaid, off or on, and does not change"},
};

constexpr bool are_numbered() noexcept {
  unsigned next = 1;
  for (const Rule& rule : kRules)
    if (rule.number != next++) return false;
  return true;
}
static_assert(are_numbered());

}  // namespace

std::span<const Rule> all_rules() noexcept { return kRules; }

const Rule* find_rule(unsigned number) noexcept {
  return number >= 1 && number <= std::size(kRules) ? &kRules[number - 1] : nullptr;
}

}  // namespace host_stub
