// SPDX-License-Identifier: MIT
#include "matrix/matrix_run.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "host_kit/one_msr.hpp"
#include "kvm/errno_names.hpp"
#include "kvm/intercept.hpp"
#include "kvm/ioctl_names.hpp"
#include "kvm/msr_request.hpp"
#include "sim/backend.hpp"
#include "stub_vmm/stub_vmm.hpp"

namespace host_stub::matrix {
namespace {

constexpr uint32_t kVcpus = 2;

constexpr uint32_t kGlobalStatus = 0xc0000300;  // MSRC000_0300 PerfCntrGlobalStatus
constexpr uint32_t kGlobalCtl = 0xc0000301;     // MSRC000_0301 PerfCntrGlobalCtl

/// A selector and its counter, at the address that the guest's CPUID promises.
struct Pair {
  uint32_t selector, counter;
};
constexpr Pair kLegacy[] = {{0xc0010000, 0xc0010004},  // MSRC001_0000 and _0004
                            {0xc0010001, 0xc0010005},
                            {0xc0010002, 0xc0010006},
                            {0xc0010003, 0xc0010007}};
constexpr Pair kExtended[] = {{0xc0010200, 0xc0010201},  // PerfCtrExtCore: MSRC001_0200 and _0201
                              {0xc0010202, 0xc0010203}, {0xc0010204, 0xc0010205},
                              {0xc0010206, 0xc0010207}, {0xc0010208, 0xc0010209},
                              {0xc001020a, 0xc001020b}};

/// All PMU registers of AMD's that KVM can have.
struct MsrRange {
  uint32_t base, count;
};
constexpr MsrRange kPmuMsrs[] = {{0xc0010000, 8}, {0xc0010200, 12}, {0xc0000300, 4}};

std::vector<uint32_t> reached_by_guest(Vcpu& vcpu) {
  std::vector<uint32_t> reached;
  for (const MsrRange& range : kPmuMsrs)
    for (uint32_t msr = range.base; msr != range.base + range.count; ++msr)
      if (vcpu.guest_rdmsr(msr) || vcpu.guest_wrmsr(msr, 0)) reached.push_back(msr);
  return reached;
}

/// What the guest's CPUID says once plugins have hidden what they hide.
std::span<const Pair> pairs_of(const StubVmm& vmm) {
  constexpr uint32_t kPerfCtrExtCore = 1u << 23;
  const bool core = (vmm.guest_cpuid().lookup(0x80000001, 0).ecx & kPerfCtrExtCore) != 0;
  return core ? std::span<const Pair>(kExtended) : std::span<const Pair>(kLegacy);
}
bool has_v2(const StubVmm& vmm) { return (vmm.guest_cpuid().lookup(0x80000022, 0).eax & 1) != 0; }

/// The one register behind both addresses of counters 0-3.
uint32_t without_alias(uint32_t msr) {
  for (std::size_t i = 0; i < std::size(kLegacy); ++i) {
    if (msr == kLegacy[i].selector) return kExtended[i].selector;
    if (msr == kLegacy[i].counter) return kExtended[i].counter;
  }
  return msr;
}

/// One case under way: what is looked at depends on where it is.
class Run {
 public:
  Run(const Case& row, const std::string& plugin) : row_(row), plugin_(plugin) {}

  Observation run();

 private:
  enum class Phase : uint8_t { before, vm_created, other, reset };

  std::unique_ptr<Kvm> open();
  VmmConfig config() const;
  void see(const IoctlCall& call, int32_t result);
  void see_writes(const IoctlCall& call, int32_t taken);
  void see(const Event& event);
  void play(StubVmm& vmm);
  static void make_dirty(StubVmm& vmm, uint32_t index);
  static Registers read(StubVmm& vmm, uint32_t index);

  const Case& row_;
  const std::string& plugin_;
  Phase phase_ = Phase::before;
  std::vector<std::string>* console_ = nullptr;
  std::vector<std::set<uint32_t>> written_{kVcpus};
  Observation seen_;
};

std::unique_ptr<Kvm> Run::open() {
  auto kvm = open_host(row_);
  if (!kvm) {
    seen_.start_result = -ENODEV;
    seen_.start_error = kvm.error();
    return nullptr;
  }
  return intercept_ioctls(std::move(*kvm), [this](const IoctlCall& call, const IoctlInner& inner) {
    const int32_t result = inner(call.arg);
    see(call, result);
    return result;
  });
}

VmmConfig Run::config() const {
  VmmConfig config;
  config.vcpus = kVcpus;
  config.irqchip = row_.irqchip();
  config.batch = row_.batch;
  config.guest_pmu = row_.guest_pmu();
  config.cpuid = CpuidModel::parse(row_.cpuid_model()).value();
  if (row_.has_plugin()) config.plugins.push_back({plugin_, row_.options()});
  return config;
}

void Run::see(const IoctlCall& call, int32_t result) {
  // The stub VMM makes none of its own between KVM_CREATE_VM and the end of the hook.
  if (phase_ == Phase::vm_created && call.level == IoctlLevel::vm)
    ++seen_.vm_created[ioctl_name(call.request)];
  if (phase_ == Phase::reset && is_msr_request(call.request)) see_writes(call, result);
  if (call.request == KVM_CREATE_VM && row_.has_plugin()) phase_ = Phase::vm_created;
}

void Run::see_writes(const IoctlCall& call, int32_t taken) {
  const auto vcpu = static_cast<std::size_t>(call.vcpu);
  ++seen_.reset[vcpu][ioctl_name(call.request)];
  if (call.request != VMM_KVM_SET_MSRS || taken < 0) return;
  for (const kvm_msr_entry& entry : msr_entries(call.arg).first(static_cast<std::size_t>(taken))) {
    if (entry.index == kGlobalCtl) continue;  // stopped first, started last
    if (!written_[vcpu].insert(without_alias(entry.index)).second)
      seen_.written_twice.push_back(entry.index);
  }
}

void Run::see(const Event& event) {
  switch (event.kind) {
    case Event::Kind::hook:
      if (event.name == "vm_created") phase_ = Phase::other;
      seen_.hook_result = std::min(seen_.hook_result, event.result);
      break;
    case Event::Kind::guest:
      if (console_ != nullptr) console_->push_back(event.text);
      break;
    case Event::Kind::log:
      (event.name == "host_stub" ? seen_.host_log : seen_.log).push_back({event.level, event.text});
      break;
    default:
      break;
  }
}

/// A guest that left every register of its own in use: what perf does with one of them.
void Run::make_dirty(StubVmm& vmm, uint32_t index) {
  Vcpu& vcpu = vmm.vcpu(index);
  constexpr uint64_t kCycles = 0x530076;  // EN, INT, OS, USR, event 76
  for (const Pair& pair : pairs_of(vmm)) {
    host_kit::set_msr(vcpu, pair.selector, kCycles);
    host_kit::set_msr(vcpu, pair.counter, uint64_t{0xffff} << 32);
  }
  if (!has_v2(vmm)) return;
  host_kit::set_msr(vcpu, kGlobalStatus, 1);
  host_kit::set_msr(vcpu, kGlobalCtl, 0);
}

Registers Run::read(StubVmm& vmm, uint32_t index) {
  Vcpu& vcpu = vmm.vcpu(index);
  Registers registers;
  for (const Pair& pair : pairs_of(vmm)) {
    const std::size_t before = registers.dirty.size();
    for (const uint32_t msr : {pair.selector, pair.counter})
      if (host_kit::get_msr(vcpu, msr).value_or(0) != 0) registers.dirty.push_back(msr);
    registers.dirty_counters += registers.dirty.size() != before ? 1 : 0;
  }
  if (!has_v2(vmm)) return registers;
  registers.global_status = host_kit::get_msr(vcpu, kGlobalStatus).value_or(0);
  registers.global_ctl = host_kit::get_msr(vcpu, kGlobalCtl);
  // KVM lets a host read 0 from a register that it lists and this vCPU lacks; such a one takes 0
  // only, while a real one takes anything and keeps the bits that exist.
  if (registers.global_ctl == uint64_t{0}) {
    if (!host_kit::set_msr(vcpu, kGlobalCtl, 1)) registers.global_ctl.reset();
    host_kit::set_msr(vcpu, kGlobalCtl, 0);
  }
  return registers;
}

void Run::play(StubVmm& vmm) {
  console_ = &seen_.boot;
  vmm.guest().boot();
  console_ = nullptr;
  vmm.guest().start_perf();
  const bool dirty = row_.has_plugin() && row_.vendor != VendorPair::amd_host_intel_guest;
  for (uint32_t i = 0; i < kVcpus; ++i) {
    if (dirty) make_dirty(vmm, i);
    seen_.before.push_back(read(vmm, i));
  }
  phase_ = Phase::reset;
  if (const auto done = vmm.reset(); !done) seen_.hook_result = done.error().code;
  phase_ = Phase::other;
  for (uint32_t i = 0; i < kVcpus; ++i) seen_.after.push_back(read(vmm, i));
  console_ = &seen_.boot_after;
  vmm.guest().boot();
  seen_.nmis_after = vmm.guest().state().unknown_nmis;
  console_ = nullptr;
  seen_.guest_reaches = reached_by_guest(vmm.vcpu(0));
}

Observation Run::run() {
  seen_.reset.resize(kVcpus);
  const auto kvm = open();
  if (kvm == nullptr) return std::move(seen_);
  auto vmm = StubVmm::create(*kvm, config(), [this](const Event& event) { see(event); });
  if (vmm) {
    play(**vmm);
  } else {
    seen_.start_result = vmm.error().code;
    seen_.start_error = vmm.error().text;
  }
  return std::move(seen_);
}

// ---- what was expected -------------------------------------------------------------------------

/// What the plugin says of each decision; indexed by Decision.
constexpr const char* kDecisionWords[] = {nullptr, "vPMU disabled for this VM", "already off",
                                          "vPMU hidden from this VM", "vPMU cannot be disabled"};
/// What the guest says, by BootLine.
constexpr const char* kBootWords[] = {" PMU driver.", "PMU not available due to virtualization",
                                      "no PMU driver"};
constexpr const char* kRefusedWords = "KVM does not have";
constexpr const char* kBrokenBios = "Broken BIOS";
constexpr const char* kFirmwareBug = "[Firmware Bug]";

bool holds(const std::string& text, const char* word) {
  return text.find(word) != std::string::npos;
}

bool any_holds(const std::vector<std::string>& lines, const char* word) {
  return std::ranges::any_of(lines, [&](const std::string& line) { return holds(line, word); });
}

uint32_t count_of(const IoctlCounts& counts, const char* name) {
  const auto found = counts.find(name);
  return found == counts.end() ? 0 : found->second;
}

uint32_t total(const IoctlCounts& counts) {
  uint32_t sum = 0;
  for (const auto& [name, count] : counts) sum += count;
  return sum;
}

/// Collects what differs.
class Judge {
 public:
  Judge(const Expectation& expected, const Case& row, const Observation& seen)
      : e_(expected), row_(row), seen_(seen) {}

  std::vector<std::string> all() {
    start();
    decision();
    if (e_.start != Start::runs || seen_.start_result != 0) return std::move(wrong_);
    hooks();
    reset_ioctls();
    if (row_.has_plugin()) registers();
    guest();
    log();
    return std::move(wrong_);
  }

 private:
  template <typename T>
  void same(const char* what, const T& expected, const T& seen) {
    if (expected != seen)
      wrong_.push_back(fmt::format("{}: expected {}, saw {}", what, expected, seen));
  }
  void within(const std::string& what, Range expected, uint32_t seen) {
    if (seen < expected.least || seen > expected.most)
      wrong_.push_back(
          fmt::format("{}: expected {} to {}, saw {}", what, expected.least, expected.most, seen));
  }

  void start() {
    constexpr int32_t kResults[] = {0, -EOPNOTSUPP, -EBUSY};  // by Start
    same("making the VM", kResults[static_cast<std::size_t>(e_.start)], seen_.start_result);
    if (e_.start == Start::busy)
      for (const char* hint : {"nmi_watchdog", "pmu-cap-disabled=on"})
        if (!holds(seen_.start_error, hint))
          wrong_.push_back(fmt::format("EBUSY is not explained by '{}'", hint));
    if (e_.start == Start::refused) same("vm_created", -EOPNOTSUPP, seen_.hook_result);
  }

  void decision() {
    within("ioctls of vm_created", {0, e_.most_vm_created_ioctls}, total(seen_.vm_created));
    same("KVM_ENABLE_CAP", e_.decision == Decision::off_by_cap ? 1u : 0u,
         count_of(seen_.vm_created, "KVM_ENABLE_CAP"));
    same("KVM_X86_SET_MSR_FILTER", e_.decision == Decision::filtered ? 1u : 0u,
         count_of(seen_.vm_created, "KVM_X86_SET_MSR_FILTER"));
    const auto said = decision_said(seen_);
    if (said != e_.decision)
      wrong_.emplace_back("the log and the error say another outcome of vm_created");
  }

  void hooks() { same("hooks", 0, seen_.hook_result); }

  void reset_ioctls() {
    for (std::size_t i = 0; i < seen_.reset.size(); ++i) {
      within(fmt::format("KVM_SET_MSRS in a reset of vCPU {}", i), e_.set_msrs,
             count_of(seen_.reset[i], "KVM_SET_MSRS"));
      within("KVM_GET_MSRS in a reset", {0, e_.most_get_msrs},
             count_of(seen_.reset[i], "KVM_GET_MSRS"));
    }
    if (!seen_.written_twice.empty())
      wrong_.push_back(fmt::format("written twice: {:08x}", fmt::join(seen_.written_twice, " ")));
  }

  void registers() {
    if (row_.vendor == VendorPair::amd_host_intel_guest) return;
    for (const Registers& before : seen_.before)
      same("live counters before the reset", e_.live_counters, before.dirty_counters);
    for (const Registers& after : seen_.after) {
      if (!after.dirty.empty())
        wrong_.push_back(
            fmt::format("not clean after the reset: {:08x}", fmt::join(after.dirty, " ")));
      if (e_.global_is_dead) continue;
      same("GLOBAL_STATUS after the reset", uint64_t{0}, after.global_status);
      same("GLOBAL_CTL is there", e_.global_ctl.has_value(), after.global_ctl.has_value());
      if (e_.global_ctl && after.global_ctl)
        same("GLOBAL_CTL after the reset", *e_.global_ctl, *after.global_ctl);
    }
  }

  void guest() {
    const auto boot = [&](const char* when, const std::vector<std::string>& console, bool bug) {
      const char* words = kBootWords[static_cast<std::size_t>(e_.boot)];
      // with stale selectors Linux says more, and the driver's line after it
      const char* driver = "PMU driver.";
      if (!any_holds(console, bug ? driver : words))
        wrong_.push_back(fmt::format("the guest does not say '{}' {}", words, when));
      for (const char* word : {kBrokenBios, kFirmwareBug})
        if (any_holds(console, word) != bug)
          wrong_.push_back(
              fmt::format("the guest {} '{}' {}", bug ? "does not say" : "says", word, when));
    };
    boot("at boot", seen_.boot, false);
    boot("after the reset", seen_.boot_after, e_.firmware_bug);
    if (e_.decision == Decision::filtered && !seen_.guest_reaches.empty())
      wrong_.push_back(fmt::format("not filtered: {:08x}", fmt::join(seen_.guest_reaches, " ")));
    if (row_.has_plugin()) same("unknown NMIs after the reset", 0u, seen_.nmis_after);
  }

  void log() {
    uint32_t refused = 0, warnings = 0;
    for (const LogLine& line : seen_.log) {
      if (holds(line.text, kRefusedWords)) ++refused;
      if (line.level <= VMM_LOG_WARNING) ++warnings;
      if (line.level <= VMM_LOG_ERROR) wrong_.push_back("the plugin logs an error: " + line.text);
    }
    within("lines about refused registers", e_.refused_lines, refused);
    if (row_.batch) host_log();
    if (e_.warning == Warning::never) within("warnings", {0, 0}, warnings);
    if (e_.warning == Warning::must && warnings == 0) wrong_.emplace_back("no warning is logged");
  }

  /// What KVM refuses of the host's batch is said once per VM and register.
  void host_log() {
    std::set<std::string> said;
    for (const LogLine& line : seen_.host_log) {
      const std::size_t at = line.text.find("KVM refuses ");
      if (at == std::string::npos) continue;
      const std::string words =
          line.text.substr(at, std::string_view("KVM refuses c0010200").size());
      if (!said.insert(words).second) wrong_.push_back("said again: " + words);
    }
  }

  const Expectation& e_;
  const Case& row_;
  const Observation& seen_;
  std::vector<std::string> wrong_;
};

}  // namespace

tl::expected<std::unique_ptr<Kvm>, std::string> open_host(const Case& row) {
  return open_kvm(row.kvm_spec());
}

Observation observe(const Case& row, const std::string& plugin) { return Run(row, plugin).run(); }

std::optional<Decision> decision_said(const Observation& seen) {
  std::set<Decision> said;
  for (std::size_t i = 1; i < std::size(kDecisionWords); ++i) {
    const auto by_line = [&](const LogLine& line) { return holds(line.text, kDecisionWords[i]); };
    if (std::ranges::any_of(seen.log, by_line) || holds(seen.start_error, kDecisionWords[i]))
      said.insert(static_cast<Decision>(i));
  }
  if (said.empty()) return Decision::nothing;
  return said.size() == 1 ? std::optional(*said.begin()) : std::nullopt;
}

std::vector<std::string> differences(const Expectation& expected, const Case& row,
                                     const Observation& seen) {
  return Judge(expected, row, seen).all();
}

}  // namespace host_stub::matrix
