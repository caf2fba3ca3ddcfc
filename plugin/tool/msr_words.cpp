// SPDX-License-Identifier: MIT
#include "tool/msr_words.hpp"

#include <fmt/format.h>

#include "amd_pmu.hpp"

namespace svm_pmu::tool {
namespace {

/// A bank of registers: `count` of them, `stride` apart.
struct Bank {
  uint32_t first, stride, count;
  MsrKind kind;
  const char* name;  ///< "{}" stands for the number
  const char* what;
};

constexpr uint32_t kExt = amd::kExtCounters, kOld = amd::kLegacyCounters;

// Intel's from its SDM vol. 4, "Architectural MSRs"; AMD's as in amd_pmu.hpp.
constexpr Bank kBanks[] = {
    {amd::kPerfCtl0, 2, kExt, MsrKind::amd_selector, "PERF_CTL{}",
     "the event selector of AMD's counter {}"},
    {amd::kExtCtr0, 2, kExt, MsrKind::amd_pmu, "PERF_CTR{}", "AMD's counter {}"},
    {amd::kPerfEvtSel0, 1, kOld, MsrKind::amd_selector, "PerfEvtSel{}",
     "the event selector of AMD's counter {} at its old address"},
    {amd::kPerfCtr0, 1, kOld, MsrKind::amd_pmu, "PerfCtr{}", "AMD's counter {} at its old address"},
    {amd::kGlobalStatus, 1, 1, MsrKind::amd_pmu, "PerfCntrGlobalStatus",
     "the overflow bits of AMD's PerfMonV2"},
    {amd::kGlobalCtl, 1, 1, MsrKind::amd_pmu, "PerfCntrGlobalCtl",
     "the enable bits of AMD's PerfMonV2"},
    {amd::kGlobalStatusClr, 1, 1, MsrKind::amd_pmu, "PerfCntrGlobalStatusClr",
     "clears overflow bits of AMD's PerfMonV2"},
    {amd::kGlobalStatusSet, 1, 1, MsrKind::amd_pmu, "PerfCntrGlobalStatusSet",
     "sets overflow bits of AMD's PerfMonV2"},
    {0xc1, 1, 8, MsrKind::intel_pmu, "IA32_PMC{}", "Intel's counter {}"},
    {0x186, 1, 8, MsrKind::intel_pmu, "IA32_PERFEVTSEL{}",
     "the event selector of Intel's counter {}"},
    {0x309, 1, 4, MsrKind::intel_pmu, "IA32_FIXED_CTR{}", "Intel's fixed counter {}"},
    {0x38d, 1, 1, MsrKind::intel_pmu, "IA32_FIXED_CTR_CTRL",
     "the control of Intel's fixed counters"},
    {0x38f, 1, 1, MsrKind::intel_pmu, "IA32_PERF_GLOBAL_CTRL",
     "the enable bits of Intel's counters"},
};

const Bank* bank_of(uint32_t msr) {
  for (const Bank& bank : kBanks) {
    if (msr < bank.first || (msr - bank.first) % bank.stride != 0) continue;
    if ((msr - bank.first) / bank.stride < bank.count) return &bank;
  }
  return nullptr;
}

struct Bit {
  unsigned number;
  const char* name;
};
// APM vol. 2, "Performance Event-Select Registers"
constexpr Bit kSelectorBits[] = {{16, "USR"}, {17, "OS"},  {18, "EDGE"},      {20, "INT"},
                                 {22, "EN"},  {23, "INV"}, {40, "GuestOnly"}, {41, "HostOnly"}};

struct Event {
  uint32_t number;
  const char* name;
};
// events that Linux's perf uses by default on AMD
constexpr Event kEvents[] = {{0x076, "core clocks not halted"},
                             {0x0c0, "retired instructions"},
                             {0x0c2, "retired branches"},
                             {0x0c3, "mispredicted branches"}};

}  // namespace

MsrKind kind_of(uint32_t msr) {
  const Bank* bank = bank_of(msr);
  return bank == nullptr ? MsrKind::other : bank->kind;
}

std::string describe_msr(uint32_t msr) {
  const Bank* bank = bank_of(msr);
  if (bank == nullptr) return {};
  const uint32_t number = (msr - bank->first) / bank->stride;
  return fmt::format("{}, {}", fmt::format(fmt::runtime(bank->name), number),
                     fmt::format(fmt::runtime(bank->what), number));
}

std::string describe_selector(uint64_t value) {
  const auto event = static_cast<uint32_t>((value & 0xff) | (value >> 24 & 0xf00));
  std::string text = fmt::format("event {:03x}", event);
  for (const Event& row : kEvents)
    if (row.number == event) text += fmt::format(" ({})", row.name);
  if (const uint64_t mask = value >> 8 & 0xff; mask != 0)
    text += fmt::format(", unit mask {:x}", mask);
  for (const Bit& bit : kSelectorBits)
    if ((value >> bit.number & 1) != 0) text += fmt::format(", {}", bit.name);
  return text;
}

}  // namespace svm_pmu::tool
