// SPDX-License-Identifier: MIT
//
// explain: lines as kernels, QEMU and the loader print them, and what is said of each.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <ostream>
#include <set>
#include <string>

#include "support/process.hpp"
#include "tool/explain.hpp"
#include "tool/msr_words.hpp"

using namespace svm_pmu::tool;
namespace bdata = boost::unit_test::data;

namespace {

const std::string kTool = TEST_BUILD_DIR "/plugin/tool/svm-pmu";

constexpr auto kBug = Verdict::this_bug, kMaybe = Verdict::may_be, kNot = Verdict::not_this,
               kFine = Verdict::as_wanted;

struct Line {
  const char* text;
  Verdict verdict;
  const char* says;  ///< somewhere in the explanation
};
std::ostream& operator<<(std::ostream& out, const Line& line) { return out << line.text; }

// clang-format off
const Line kLines[] = {
    {"[    0.092023] [Firmware Bug]: the BIOS has corrupted hw-PMU resources (MSR c0010200 is 530076)", kBug, "event 076 (core clocks not halted), USR, OS, INT, EN"},
    {"[Firmware Bug]: the BIOS has corrupted hw-PMU resources (MSR c0010206 is 530076)", kBug, "PERF_CTL3"},
    {"[Firmware Bug]: the BIOS has corrupted hw-PMU resources (MSR c0010003 is 5300c0)", kBug, "PerfEvtSel3"},
    {"[Firmware Bug]: the BIOS has corrupted hw-PMU resources (MSR c0010201 is 530076)", kNot, "AMD's counter 0"},
    {"[Firmware Bug]: the BIOS has corrupted hw-PMU resources (MSR c001020c is 530076)", kNot, "Only c0010000 to c0010003"},
    {"[Firmware Bug]: the BIOS has corrupted hw-PMU resources (MSR 38d is b0)", kNot, "IA32_FIXED_CTR_CTRL"},
    {"[firmware bug] The BIOS has corrupted hw-PMU resources (MSR 38d is 330).", kNot, "firmware uses this counter itself"},
    {"[Firmware Bug]: the BIOS has corrupted hw-PMU resources (MSR 186 is 43003c)", kNot, "IA32_PERFEVTSEL0"},
    {"Performance Events: Fam17h+ core perfctr, Broken BIOS detected, complain to your hardware vendor.", kMaybe, "(MSR ...)"},
    {"Performance Events: Broken PMU hardware detected, using software events only.", kMaybe, "hypervisor bit"},
    {"Uhhuh. NMI received for unknown reason 30 on CPU 0.", kMaybe, "30 is what port 0x61 read"},
    {"Uhhuh. NMI received for unknown reason 10 on CPU 0.", kMaybe, "bug 2"},
    {"Uhhuh. NMI received for unknown reason 21 on CPU 3.", kMaybe, "inject-nmi"},
    {"Uhhuh. NMI received for unknown reason 2c on CPU 5.", kNot, "physical machine"},
    {"Uhhuh. NMI received for unknown reason 3d.", kNot, "physical machine"},
    {"Dazed and confused, but trying to continue", kMaybe, "line before it"},
    {"Do you have a strange power saving mode enabled?", kMaybe, "line before it"},
    {"kernel:NMI: PCI system error (SERR) for reason a0 on CPU 0.", kNot, "PCI device"},
    {"NMI: IOCK error (debug interrupt?) for reason 60 on CPU 0.", kNot, "I/O channel"},
    {"Performance Events: PMU not available due to virtualization, using software events only.", kFine, "runs without one"},
    {"Performance Events: Fam17h+ core perfctr, PMU not available due to virtualization, using software events only.", kFine, "PerfCtrExtCore"},
    {"Performance Events: Fam17h+ core perfctr, AMD PMU driver.", kMaybe, "bug 1"},
    {"Performance Events: HYGON PMU driver.", kMaybe, "Hygon"},
    {"NMI watchdog: Perf NMI watchdog permanently disabled", kFine, "because the vPMU is off"},
    {"kvm [1714]: vcpu0, guest rIP: 0xffffffff81076ff7 Unhandled WRMSR(0xc0010007) = 0xffff", kFine, "PerfCtr3"},
    {"kvm: vcpu0, guest rIP: 0x0 Unhandled WRMSR(0xc0010004) = 0x1", kFine, "PerfCtr0"},
    {"kvm [99]: vcpu1, guest rIP: 0xfffff8 Unhandled RDMSR(0x1a2)", kNot, "not a register of AMD's PMU"},
    {"kvm [99]: vcpu0 ignored wrmsr: 0xc0010201 data 0x0", kFine, "PERF_CTR0"},
    {"unchecked MSR access error: WRMSR to 0xc0010200 (tried to write 0x0000000000530076) at rIP: 0xffffffff", kMaybe, "-perfctr-core"},
    {"unchecked MSR access error: RDMSR from 0x1b0 at rIP: 0xffffffff", kNot, "not a register of AMD's PMU"},
    {"qemu-system-x86_64: error: failed to set MSR 0xc0010201 to 0x0", kMaybe, "-perfctr-core"},
    {"error: failed to set MSR 0x38d to 0x0", kNot, "Intel's vPMU"},
    {"qemu-system-x86_64: error: failed to set MSR 0xc0000104 to 0x100000000", kNot, "not a register of a PMU"},
    {"error: failed to get MSR 0xc0010200", kMaybe, "PERF_CTL0"},
    {"qemu-system-x86_64: kvm_init_vcpu: kvm_get_vcpu failed (0): Device or resource busy", kNot, "nmi_watchdog"},
    {"ioctl(KVM_CREATE_VCPU) failed: Device or resource busy", kNot, "EBUSY"},
    {"ERROR: ld.so: object '/usr/lib/vmm-preload/libvmm_preload.so' from LD_PRELOAD cannot be preloaded (cannot open shared object file): ignored.", kMaybe, "AppArmor"},
    {"Command line: elfcorehdr=0x55000000 BOOT_IMAGE=/vmlinuz root=/dev/vda1", kNot, "kdump"},
    {"systemd[1]: Starting Crash recovery kernel arming (kdump)...", kNot, "crash kernel"},
    {"kexec_core: Starting new kernel", kNot, "another kernel"},
};
// clang-format on

std::string all_of(const Explanation& e) {
  std::string text = e.meaning;
  for (const std::string& detail : e.details) text += " " + detail;
  return text + " " + e.next;
}

}  // namespace

BOOST_DATA_TEST_CASE(each_line_gets_its_verdict, bdata::make(kLines), line) {
  const auto explanation = Explainer().explain(line.text);
  BOOST_TEST_REQUIRE(explanation.has_value());
  BOOST_TEST(verdict_words(explanation->verdict) == verdict_words(line.verdict));
  BOOST_TEST(all_of(*explanation).find(line.says) != std::string::npos, all_of(*explanation));
  BOOST_TEST(!explanation->next.empty());
}

BOOST_AUTO_TEST_CASE(each_row_of_the_table_is_tried_by_a_line) {
  std::set<const LogMessage*> tried;
  for (const Line& line : kLines) tried.insert(find_message(line.text));
  for (const LogMessage& row : log_messages()) {
    const bool found = tried.contains(&row) || std::string_view(row.part) == "ignored rdmsr";
    BOOST_TEST(found, row.part);
  }
}

BOOST_AUTO_TEST_CASE(other_lines_are_not_explained) {
  for (const char* line :
       {"", "Linux version 6.12.95", "NMI watchdog: Enabled.", "BIOS-e820: [mem"})
    BOOST_TEST(!Explainer().explain(line).has_value(), line);
}

BOOST_AUTO_TEST_CASE(what_a_number_lacks_is_not_made_up) {
  const char* const lines[] = {"the BIOS has corrupted hw-PMU resources",
                               "corrupted hw-PMU resources (MSR zz is 1)",
                               "NMI received for unknown reason",
                               "Unhandled WRMSR",
                               "failed to set MSR 0x",
                               "corrupted hw-PMU resources (MSR ffffffffffffffff is 1)"};
  for (const char* line : lines) {
    const auto explanation = Explainer().explain(line);
    BOOST_TEST_REQUIRE(explanation.has_value());
    BOOST_TEST(explanation->details.empty(), line);
    BOOST_TEST((explanation->verdict == find_message(line)->verdict), line);
  }
}

BOOST_AUTO_TEST_CASE(after_a_kexec_the_register_is_of_the_kernel_before) {
  const char* const broken = kLines[0].text;
  for (const char* kexec :
       {"Command line: elfcorehdr=0x55000000", "kexec_core: Starting new kernel"}) {
    Explainer explainer;
    BOOST_TEST((explainer.explain(broken)->verdict == kBug));
    explainer.explain(kexec);
    BOOST_TEST((explainer.explain(broken)->verdict == kNot), kexec);
  }
  Explainer explainer;  // loading a crash kernel starts none
  explainer.explain("kdump-config: loaded kdump kernel");
  BOOST_TEST((explainer.explain(broken)->verdict == kBug));
}

BOOST_AUTO_TEST_CASE(selectors_are_decoded) {
  BOOST_TEST(describe_selector(0) == "event 000");
  BOOST_TEST(describe_selector(0x0300'00d3'0076) ==
             "event 076 (core clocks not halted), USR, OS, INT, EN, INV, GuestOnly, HostOnly");
  BOOST_TEST(describe_selector(0x1'0040'01ff) == "event 1ff, unit mask 1, EN");
}

BOOST_AUTO_TEST_CASE(registers_are_named) {
  BOOST_TEST(describe_msr(0xc001020b) == "PERF_CTR5, AMD's counter 5");
  BOOST_TEST(describe_msr(0xc001020c).empty());
  BOOST_TEST(describe_msr(0xc0010008).empty());
  BOOST_TEST((kind_of(0xc0010000) == MsrKind::amd_selector));
  BOOST_TEST((kind_of(0xc0010004) == MsrKind::amd_pmu));
  BOOST_TEST((kind_of(0xc0000301) == MsrKind::amd_pmu));
  BOOST_TEST((kind_of(0x38f) == MsrKind::intel_pmu));
  BOOST_TEST((kind_of(0xc0000080) == MsrKind::other));
}

// ---- the command -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_command_takes_lines_or_the_words_of_one) {
  const auto quoted = run_process({kTool, "explain", kLines[0].text, kLines[8].text});
  BOOST_TEST(quoted.status == 0);
  BOOST_TEST(quoted.out.find("In a guest, this is bug 2.") != std::string::npos);
  BOOST_TEST(quoted.out.find("\n\nPerformance Events") != std::string::npos);
  const auto words = run_process(
      {kTool, "explain", "Uhhuh.", "NMI", "received", "for", "unknown", "reason", "30"});
  BOOST_TEST(words.status == 0);
  BOOST_TEST(words.out.starts_with("Uhhuh. NMI received for unknown reason 30\n"));
  BOOST_TEST(words.out.find('\033') == std::string::npos);  // no terminal, no colour
}

BOOST_AUTO_TEST_CASE(the_command_reads_a_whole_log) {
  const std::string log = std::string("Linux version 6.1\n") + kLines[0].text + "\nother\n";
  const auto run =
      run_process({"/bin/sh", "-c", "printf '%s' \"$1\" | \"$2\" explain", "sh", log, kTool});
  BOOST_TEST(run.status == 0);
  BOOST_TEST(run.out.starts_with(kLines[0].text));
}

BOOST_AUTO_TEST_CASE(lines_that_mean_the_same_are_explained_once) {
  const char* const log =
      "vcpu0, guest rIP: 0x1 Unhandled WRMSR(0xc0010000) = 0x530076\n"
      "vcpu0, guest rIP: 0x1 Unhandled WRMSR(0xc0010001) = 0x530076\n"
      "vcpu1, guest rIP: 0x2 Unhandled WRMSR(0xc0010000) = 0x530076\n";
  const auto run =
      run_process({"/bin/sh", "-c", "printf '%s' \"$1\" | \"$2\" explain", "sh", log, kTool});
  BOOST_TEST(run.status == 0);
  BOOST_TEST(
      run.out.starts_with("vcpu0, guest rIP: 0x1 Unhandled WRMSR(0xc0010000) = 0x530076\n"
                          "  2 lines of the log mean this.\n"));
  BOOST_TEST(run.out.find("\n\nvcpu0, guest rIP: 0x1 Unhandled WRMSR(0xc0010001)") !=
             std::string::npos);
  BOOST_TEST(run.out.find("vcpu1") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(the_command_says_when_it_knows_nothing) {
  const auto run = run_process({kTool, "explain", "all is well"});
  BOOST_TEST(run.status == 1);
  BOOST_TEST(run.err.find("--list") != std::string::npos);
  BOOST_TEST(run_process({kTool, "explain", "--no-such"}).status == 2);
}

BOOST_AUTO_TEST_CASE(the_list_and_the_whole_help_have_each_row) {
  for (const char* const option : {"--list", "--help-all"}) {
    const std::vector<std::string> words = std::string_view(option) == "--list"
                                               ? std::vector<std::string>{kTool, "explain", option}
                                               : std::vector<std::string>{kTool, option};
    const auto run = run_process(words);
    BOOST_TEST(run.status == 0);
    for (const LogMessage& row : log_messages())
      BOOST_TEST(run.out.find(std::string("  ") + row.part) != std::string::npos, row.part);
  }
}
