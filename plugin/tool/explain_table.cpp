// SPDX-License-Identifier: MIT
//
// The table of explain: lines of guests' and hosts' logs. What the kernel prints, and when, is from
// its arch/x86/events/core.c, kernel/nmi.c and kvm/x86.c.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "tool/explain.hpp"
#include "tool/msr_words.hpp"

namespace svm_pmu::tool {
namespace {

bool same_letter(char a, char b) {
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

/// Where `part` is in `line`, whatever the case of letters; npos: nowhere.
std::size_t find_part(std::string_view line, std::string_view part) {
  const auto found = std::search(line.begin(), line.end(), part.begin(), part.end(), same_letter);
  return found == line.end() ? std::string_view::npos
                             : static_cast<std::size_t>(found - line.begin());
}

bool holds(std::string_view line, std::string_view part) {
  return find_part(line, part) != std::string_view::npos;
}

/// The hexadecimal number right after `part`, with or without 0x.
std::optional<uint64_t> hex_after(std::string_view line, std::string_view part) {
  const std::size_t at = find_part(line, part);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = line.substr(at + part.size());
  if (rest.starts_with("0x") || rest.starts_with("0X")) rest.remove_prefix(2);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value, 16);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::optional<uint32_t> msr_after(std::string_view line, std::string_view part) {
  const auto value = hex_after(line, part);
  if (!value || *value > UINT32_MAX) return std::nullopt;
  return static_cast<uint32_t>(*value);
}

void name_msr(uint32_t msr, Explanation& explanation) {
  if (const std::string name = describe_msr(msr); !name.empty())
    explanation.details.push_back(fmt::format("MSR {:x} is {}.", msr, name));
}

// ---- what the numbers of a line add ------------------------------------------------------------

/// "(MSR c0010200 is 530076)"
void refine_corrupted(std::string_view line, Explanation& explanation) {
  const auto msr = msr_after(line, "(MSR ");
  if (!msr) return;
  name_msr(*msr, explanation);
  const MsrKind kind = kind_of(*msr);
  if (const auto value = hex_after(line, " is "); value && kind == MsrKind::amd_selector)
    explanation.details.push_back(
        fmt::format("Its value {:x} is {}.", *value, describe_selector(*value)));
  if (kind == MsrKind::amd_selector) {
    explanation.details.emplace_back(
        "In a guest that was reset it is left over from before the reset: KVM resets no PMU "
        "register with the vCPU. On a physical host it comes from the firmware, or from the kernel "
        "before a kexec.");
    explanation.verdict = Verdict::this_bug;
    return;
  }
  explanation.verdict = Verdict::not_this;
  explanation.details.emplace_back(
      "Only c0010000 to c0010003 and the even ones of c0010200 to c001020a, AMD's event selectors, "
      "can be left over from a guest's last run by this bug.");
  if (kind != MsrKind::intel_pmu) return;
  explanation.next =
      "On a physical host, the firmware uses this counter itself, usually for power monitoring: "
      "look for such a setting in the firmware, or leave it. In a guest with an Intel CPU the VMM "
      "must fix it.";
}

/// "reason 30 on CPU 0"
void refine_nmi(std::string_view line, Explanation& explanation) {
  const auto reason = hex_after(line, "unknown reason ");
  if (!reason) return;
  // What a VM's port 0x61 can read (KVM's and QEMU's models of it): bit 0 the gate of timer 2, bit
  // 1 the speaker, bit 4 the refresh clock, bit 5 the output of timer 2.
  constexpr uint64_t kInVms = 0x33;
  if ((*reason & ~kInVms) == 0) {
    explanation.details.push_back(fmt::format(
        "{:02x} is what port 0x61 read then: bits of timer 2, the speaker and the refresh clock. "
        "It does not say what the cause was. A counter's NMI looks like this.",
        *reason));
    return;
  }
  explanation.verdict = Verdict::not_this;
  explanation.details.push_back(fmt::format(
      "{:02x} has bits that port 0x61 of a VM does not have. A VM has bits 0, 1, 4 and 5 only, as "
      "in 00, 10, 20, 21, 30, 31. So this line comes from a physical machine.",
      *reason));
  explanation.next =
      "Look at the machine's hardware log (BMC, IPMI SEL). With watchdog drivers such as hpwdt it "
      "may be an NMI that an operator sent.";
}

/// "Unhandled WRMSR(0xc0010007) = 0xffff", "unchecked MSR access error: WRMSR to 0xc0010200"
void refine_access(std::string_view line, Explanation& explanation) {
  for (const char* part : {"WRMSR(", "RDMSR(", "wrmsr: ", "rdmsr: ", "WRMSR to ", "RDMSR from "}) {
    const auto msr = msr_after(line, part);
    if (!msr) continue;
    name_msr(*msr, explanation);
    const MsrKind kind = kind_of(*msr);
    if (kind == MsrKind::amd_selector || kind == MsrKind::amd_pmu) return;
    explanation.verdict = Verdict::not_this;
    explanation.details.emplace_back("It is not a register of AMD's PMU.");
    explanation.next = "Nothing to do with this plugin.";
    return;
  }
}

/// "failed to set MSR 0xc0010201 to 0x0"
void refine_failed_msr(std::string_view line, Explanation& explanation) {
  auto msr = msr_after(line, "set MSR ");
  if (!msr) msr = msr_after(line, "get MSR ");
  if (!msr) return;
  name_msr(*msr, explanation);
  switch (kind_of(*msr)) {
    case MsrKind::amd_selector:
    case MsrKind::amd_pmu:
      return;
    case MsrKind::intel_pmu:
      explanation.verdict = Verdict::not_this;
      explanation.next =
          "The VMM assumes that KVM has Intel's vPMU, but KVM has none for this VM "
          "(kvm.enable_pmu=N, or the vPMU was switched off). Start the guest with -cpu "
          "...,pmu=off.";
      return;
    case MsrKind::other:
      explanation.verdict = Verdict::not_this;
      explanation.details.emplace_back("It is not a register of a PMU.");
      explanation.next = "Nothing to do with this plugin.";
  }
}

/// "Fam17h+ core perfctr, PMU not available due to virtualization"
void refine_not_available(std::string_view line, Explanation& explanation) {
  if (holds(line, "core perfctr"))
    explanation.details.emplace_back(
        "The guest's CPUID still says PerfCtrExtCore (\"core perfctr\"): harmless to Linux; a "
        "driver that trusts CPUID may take #GP. svm_pmu hides it where it switches the vPMU off "
        "(pmu-cpuid=auto or hide); without it '-cpu ...,-perfctr-core' does.");
}

// ---- the table ---------------------------------------------------------------------------------

constexpr const char* kUseVmmRun =
    "Start the VM with vmm-run and svm_pmu.so; 'svm-pmu status' on the host says which VMs have "
    "it, 'svm-pmu probe' what the host needs. Until then a cold start of the VM (not a reset) "
    "clears the registers.";

constexpr LogMessage kMessages[] = {
    {"corrupted hw-PMU resources", nullptr, "a guest's or a host's", Verdict::may_be,
     "At its boot the kernel found a PMU register in use. It looks at the boot CPU alone and names "
     "the last such register.",
     kUseVmmRun, refine_corrupted},
    {"Broken BIOS detected", nullptr, "a guest's or a host's", Verdict::may_be,
     "Some of the PMU's registers were in use when the kernel booted. The next line, \"corrupted "
     "hw-PMU resources (MSR ...)\", says which; that one tells whether it is this bug.",
     "Give that line to 'svm-pmu explain'.", nullptr},
    {"Broken PMU hardware detected", nullptr, "a guest's or a host's", Verdict::may_be,
     "The kernel found no counter that works and no hypervisor bit in CPUID. In a VM whose CPUID "
     "hides the hypervisor, a missing vPMU looks like this.",
     "Nothing, if the vPMU should be off.", nullptr},
    {"NMI received for unknown reason", nullptr, "a guest's or a host's", Verdict::may_be,
     "An NMI came that no driver knows. In a guest that was reset while perf ran, a counter that "
     "the old kernel left running can send it (bug 2). An operator can also inject it (virsh "
     "inject-nmi).",
     "Look for \"corrupted hw-PMU resources\" at the guest's last boot: if it is there, this is "
     "bug 2. Start the VM with vmm-run and svm_pmu.so.",
     refine_nmi},
    {"Dazed and confused", nullptr, "a guest's or a host's", Verdict::may_be,
     "This ends the message of the line before it, which says which NMI it was.",
     "Give the line before it to 'svm-pmu explain'.", nullptr},
    {"strange power saving mode", nullptr, "a guest's or a host's", Verdict::may_be,
     "Older kernels end \"NMI received for unknown reason\" with this.",
     "Give the line before it to 'svm-pmu explain'.", nullptr},
    {"PCI system error (SERR)", nullptr, "a host's", Verdict::not_this,
     "The chipset reports an error of a PCI device by NMI. A counter's NMI never looks like this.",
     "Look at the machine's hardware log.", nullptr},
    {"NMI: IOCK error", nullptr, "a host's", Verdict::not_this,
     "The chipset reports an I/O channel error by NMI. A counter's NMI never looks like this.",
     "Look at the machine's hardware log.", nullptr},
    {"PMU not available due to virtualization", nullptr, "a guest's", Verdict::as_wanted,
     "The guest found no working PMU and runs without one. A guest whose vPMU is off says this.",
     "Nothing, if the vPMU should be off. If the guest should have one, 'svm-pmu probe' on the "
     "host says whether KVM offers one.",
     refine_not_available},
    {"AMD PMU driver", nullptr, "a guest's or a host's", Verdict::may_be,
     "The kernel uses AMD's PMU. This is right on a host, and in a guest that should have a PMU. "
     "In a guest whose VMM was told pmu=off it is bug 1: the VMM changed CPUID only, and the "
     "registers still work.",
     "To take the PMU away from a guest: vmm-run --plugin svm_pmu.so,pmu-cap-disabled=on.",
     nullptr},
    {"HYGON PMU driver", nullptr, "a guest's or a host's", Verdict::may_be,
     "As \"AMD PMU driver\": Hygon's processors have the same PMU.",
     "To take the PMU away from a guest: vmm-run --plugin svm_pmu.so,pmu-cap-disabled=on.",
     nullptr},
    {"Perf NMI watchdog permanently disabled", nullptr, "a guest's", Verdict::as_wanted,
     "The guest's hard lockup detector needs a PMU, and there is none because the vPMU is off.",
     "Nothing. If the guest should detect hard lockups by its PMU, it needs a vPMU.", nullptr},
    {"Unhandled WRMSR", nullptr, "a host's", Verdict::as_wanted,
     "A guest wrote a register that KVM does not have for it; KVM ignored the write. If it is a "
     "register of AMD's PMU, a Linux guest tried it at its boot, on a host or in a VM without a "
     "vPMU. 'svm-pmu probe' causes such a line, too.",
     "Nothing. kvm.report_ignored_msrs=N keeps such lines out of the log.", refine_access},
    {"Unhandled RDMSR", nullptr, "a host's", Verdict::as_wanted,
     "A guest read a register that KVM does not have for it; KVM answered 0.",
     "Nothing. kvm.report_ignored_msrs=N keeps such lines out of the log.", refine_access},
    {"ignored wrmsr", nullptr, "a host's", Verdict::as_wanted,
     "As \"Unhandled WRMSR\", with kvm.ignore_msrs=1.",
     "Nothing. kvm.report_ignored_msrs=N keeps such lines out of the log.", refine_access},
    {"ignored rdmsr", nullptr, "a host's", Verdict::as_wanted,
     "As \"Unhandled RDMSR\", with kvm.ignore_msrs=1.",
     "Nothing. kvm.report_ignored_msrs=N keeps such lines out of the log.", refine_access},
    {"unchecked MSR access error", nullptr, "a guest's", Verdict::may_be,
     "The guest's kernel accessed a register that it does not have, and continued. If it is a "
     "register of AMD's PMU, the vPMU is off or filtered, but CPUID still says PerfCtrExtCore or "
     "PerfMonV2.",
     "Hide them: '-cpu ...,-perfctr-core'.", refine_access},
    {"failed to set MSR", nullptr, "QEMU's", Verdict::may_be,
     "KVM refused a register that QEMU wrote, and QEMU aborts (\"Assertion `ret == "
     "cpu->kvm_msr_buf->nmsrs' failed\"). If it is a register of AMD's PMU: QEMU 11 and later "
     "assumes that this VM has a PMU, because PerfCtrExtCore is still in CPUID, but the vPMU was "
     "switched off.",
     "Leave svm_pmu's pmu-cpuid at auto, which hides PerfCtrExtCore; or tell QEMU as well: '-cpu "
     "host,pmu=off', or '-cpu host,-perfctr-core'.",
     refine_failed_msr},
    {"failed to get MSR", nullptr, "QEMU's", Verdict::may_be,
     "KVM refused a register that QEMU read, and QEMU aborts. See \"failed to set MSR\".",
     "Leave svm_pmu's pmu-cpuid at auto, which hides PerfCtrExtCore; or tell QEMU as well: '-cpu "
     "host,pmu=off', or '-cpu host,-perfctr-core'.",
     refine_failed_msr},
    {"kvm_get_vcpu failed", "Device or resource busy", "QEMU's", Verdict::not_this,
     "KVM_CREATE_VCPU failed with EBUSY: this host mediates the vPMU "
     "(kvm_amd.enable_mediated_pmu), and its own system-wide perf events hold the PMU, usually the "
     "NMI watchdog's.",
     "Run 'sysctl kernel.nmi_watchdog=0' and end 'perf ... -a', or start VMs without a vPMU: "
     "pmu-cap-disabled=on.",
     nullptr},
    {"KVM_CREATE_VCPU", "busy", "a VMM's", Verdict::not_this,
     "KVM_CREATE_VCPU failed with EBUSY: this host mediates the vPMU "
     "(kvm_amd.enable_mediated_pmu), and its own system-wide perf events hold the PMU, usually the "
     "NMI watchdog's.",
     "Run 'sysctl kernel.nmi_watchdog=0' and end 'perf ... -a', or start VMs without a vPMU: "
     "pmu-cap-disabled=on.",
     nullptr},
    {"libvmm_preload.so", "cannot be preloaded", "a VMM's", Verdict::may_be,
     "The loader could not open the library that vmm-run or LD_PRELOAD names, and ran the program "
     "without it: this VM has no plugin, and both bugs.",
     "Make the file readable for the VMM's user and its security label (AppArmor, SELinux), then "
     "start the VM again.",
     nullptr},
    {"elfcorehdr=", nullptr, "a guest's", Verdict::not_this,
     "A crash kernel (kdump) boots: the guest's own kexec started it, with no reset of the VM.",
     "\"Broken BIOS\" and \"corrupted hw-PMU resources\" in its log come from the kernel that "
     "crashed. No VMM can prevent that. After the reset that ends the dump they must be gone.",
     nullptr},
    {"kdump", nullptr, "a guest's", Verdict::not_this,
     "A crash kernel (kdump) was loaded or runs: the guest's own kexec starts it, with no reset of "
     "the VM.",
     "\"Broken BIOS\" and \"corrupted hw-PMU resources\" in the crash kernel's log come from the "
     "kernel that crashed. No VMM can prevent that. After the reset that ends the dump they must "
     "be gone.",
     nullptr},
    {"kexec", "Starting new kernel", "a guest's", Verdict::not_this,
     "The guest starts another kernel itself, with no reset of the VM.",
     "\"Broken BIOS\" in the new kernel's log comes from the old one. No VMM can prevent that.",
     nullptr},
};

}  // namespace

std::span<const LogMessage> log_messages() { return kMessages; }

const LogMessage* find_message(std::string_view line) {
  const auto* found = std::ranges::find_if(kMessages, [&](const LogMessage& row) {
    return holds(line, row.part) && (row.also == nullptr || holds(line, row.also));
  });
  return found == std::end(kMessages) ? nullptr : found;
}

}  // namespace svm_pmu::tool
