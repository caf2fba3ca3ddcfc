// SPDX-License-Identifier: MIT
//
// Batches and lists of MSRs: VMM-33, 47, 49, 51, 53, 54, 55, 56, 57, 58.
//
// Which registers a plugin resets is learnt from a reset that works; what they hold then is what
// any later reset that returns 0 must leave. So the checks know nothing of the plugin's purpose.
#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "check/plugin/checks.hpp"
#include "host_kit/one_msr.hpp"
#include "kvm/msr_request.hpp"
#include "sim/pmu_msrs.hpp"

namespace host_stub::validate {
namespace {

using Answer = std::optional<int32_t>;
using Values = std::map<uint32_t, std::optional<uint64_t>>;  ///< by MSR; empty: not readable

/// Writes a batch as a host does: what KVM refuses is skipped.
void write_batch(Vcpu& vcpu, const std::vector<vmm_msr>& entries) {
  for (const vmm_msr& entry : entries) host_kit::set_msr(vcpu, entry.index, entry.value);
}

/// One VM with one vCPU, and the registers that the plugin's reset is about.
class ResetStage {
 public:
  explicit ResetStage(Scene& scene) : scene_(scene) {}

  /// False: noted as not applicable.
  bool set_up() {
    life = scene_.live(kVcpuReset);
    if (life == nullptr) return false;
    vm = scene_.vm(*life, 2);
    if (vm == nullptr) return false;
    life->host.script = [this](const Ioctl& call) {
      if (call.on_vcpu && call.request == VMM_KVM_SET_MSRS)
        for (const kvm_msr_entry& entry : msr_entries(call.arg)) own_writes.insert(entry.index);
      return Answer();
    };
    const int32_t result = life->reset(*vm, 0);
    life->host.script = nullptr;
    if (result != 0) {
      scene_.findings.not_applicable(scene_.rule, "vcpu_reset failed with {}", result);
      return false;
    }
    clean = values(own_writes);
    return true;
  }
  /// The same, and it writes registers by vcpu_ioctl.
  bool set_up_with_own_writes() {
    if (!set_up()) return false;
    if (!own_writes.empty()) return true;
    scene_.findings.not_applicable(scene_.rule, "its reset writes no MSR by vcpu_ioctl");
    return false;
  }
  void tear_down() const {
    life->end_vm(*vm);
    life->destroy();
  }

  Vcpu& vcpu() const { return *vm->vcpus[0]; }
  Values values(const std::set<uint32_t>& msrs) const {
    Values all;
    for (const uint32_t msr : msrs) all[msr] = host_kit::get_msr(vcpu(), msr);
    return all;
  }
  Values values() const { return values(own_writes); }

  /// Gives every register another value than after a reset, where it takes one.
  void dirty() const {
    constexpr uint64_t kCandidates[] = {0x530076, 0x1000, 0x1, 0xff};
    for (const auto& [msr, value] : clean)
      for (const uint64_t candidate : kCandidates) {
        if (!value || candidate == *value || !host_kit::set_msr(vcpu(), msr, candidate)) continue;
        if (host_kit::get_msr(vcpu(), msr) != value) break;
      }
  }
  /// The registers that are not as after a reset, "c0010200=530076 ..."; "" = all are.
  std::string stale() const {
    std::string text;
    for (const auto& [msr, value] : values())
      if (value != clean.at(msr))
        text += fmt::format("{}{:08x}={:x}", text.empty() ? "" : " ", msr, value.value_or(0));
    return text;
  }

  std::unique_ptr<Life> life;
  std::unique_ptr<Machine> vm;
  std::set<uint32_t> own_writes;
  Values clean;

 private:
  Scene& scene_;
};

void repeating_is_harmless(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 33);
  ResetStage stage(scene);
  if (!stage.set_up()) return;
  for (int round = 2; round <= 6; ++round) {
    if (const int32_t result = stage.life->reset(*stage.vm, 0); result != 0)
      return findings.fail(33, "reset {} in a row failed with {}", round, result);
    if (const std::string stale = stage.stale(); !stale.empty())
      return findings.fail(33, "after reset {} in a row other values: {}", round, stale);
  }
  std::optional<Values> first;
  for (int round = 1; round <= 4; ++round) {
    ProbeSink& batch = ProbeSink::lend(findings, ProbeSink::batch);
    if (const int32_t result = stage.life->reset(*stage.vm, 0, &batch); result != 0)
      return findings.fail(33, "reset {} in a row, into a batch, failed with {}", round, result);
    write_batch(stage.vcpu(), batch.entries);
    std::set<uint32_t> msrs;
    for (const vmm_msr& entry : batch.entries) msrs.insert(entry.index);
    const Values now = stage.values(msrs);
    if (first && now != *first)
      return findings.fail(33, "batch {} in a row leaves other values", round);
    first = now;
  }
  stage.tear_down();
}

/// A way in which KVM_SET_MSRS goes wrong.
struct WriteFault {
  std::string name;
  /// The result for these entries: how many it takes, or a negated errno.
  std::function<int32_t(std::span<const kvm_msr_entry>)> answer;
  bool once = false;  ///< only the first call
};

/// One reset of a vCPU whose registers are not clean, with the fault: 0 means that they are.
void reset_with_fault(Scene& scene, const WriteFault& fault) {
  ResetStage stage(scene);
  if (!stage.set_up()) return;
  stage.dirty();
  int calls = 0;
  stage.life->host.script = [&](const Ioctl& call) {
    if (!call.on_vcpu || call.request != VMM_KVM_SET_MSRS) return Answer();
    if (calls++ != 0 && fault.once) return Answer();
    const auto entries = msr_entries(call.arg);
    int32_t taken = fault.answer(entries);
    for (int32_t i = 0; i < taken; ++i) {
      const kvm_msr_entry& entry = entries[static_cast<std::size_t>(i)];
      if (!host_kit::set_msr(stage.vcpu(), entry.index, entry.data)) taken = i;
    }
    return Answer(taken);
  };
  const int32_t result = stage.life->reset(*stage.vm, 0);
  stage.life->host.script = nullptr;
  if (const std::string stale = stage.stale(); result == 0 && !stale.empty())
    scene.findings.fail(scene.rule, "vcpu_reset returned 0 where KVM_SET_MSRS {}, and left {}",
                        fault.name, stale);
  stage.tear_down();
}

/// The registers that its reset writes by vcpu_ioctl. Empty: noted as not applicable.
std::set<uint32_t> own_writes_of(Scene& scene) {
  ResetStage stage(scene);
  if (!stage.set_up_with_own_writes()) return {};
  stage.tear_down();
  return stage.own_writes;
}

void short_counts_are_no_success(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 51);
  const std::set<uint32_t> msrs = own_writes_of(scene);
  if (msrs.empty()) return;
  using Entries = std::span<const kvm_msr_entry>;
  const auto count = [](Entries entries) { return static_cast<int32_t>(entries.size()); };
  std::vector<WriteFault> faults{
      {"took nothing", [](Entries) { return 0; }},
      {"took nothing once", [](Entries) { return 0; }, true},
      {"took half once", [&](Entries entries) { return count(entries) / 2; }, true},
      {"took one too few once", [&](Entries entries) { return count(entries) - 1; }, true}};
  for (const uint32_t msr : msrs)
    faults.push_back({fmt::format("refused {:08x}", msr), [&, msr](Entries entries) {
                        const auto refused = std::ranges::find(entries, msr, &kvm_msr_entry::index);
                        return static_cast<int32_t>(refused - entries.begin());
                      }});
  for (const WriteFault& fault : faults) reset_with_fault(scene, fault);
}

void failed_writes_are_no_success(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 53);
  if (own_writes_of(scene).empty()) return;
  for (const auto& [code, name] : {std::pair(-EBADF, "EBADF"), {-EIO, "EIO"}, {-EINVAL, "EINVAL"}})
    for (const bool once : {false, true})
      reset_with_fault(scene, {fmt::format("failed with {}{}", name, once ? " once" : ""),
                               [code = code](auto) { return code; }, once});
}

void full_batches_are_no_success(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 53);
  ResetStage stage(scene);
  if (!stage.set_up()) return;
  // what it wants in a batch that has room
  ProbeSink& roomy = ProbeSink::lend(findings, ProbeSink::batch);
  stage.life->reset(*stage.vm, 0, &roomy);
  if (roomy.entries.empty()) return findings.not_applicable(53, "it adds nothing to a batch");
  for (const vmm_msr& entry : roomy.entries) stage.own_writes.insert(entry.index);
  write_batch(stage.vcpu(), roomy.entries);
  stage.clean = stage.values();
  for (const int32_t refusal : {-ENOSPC, -EINVAL, -EIO}) {
    stage.dirty();
    ProbeSink& full = ProbeSink::lend(findings, ProbeSink::batch);
    full.refusal = refusal;
    const int32_t result = stage.life->reset(*stage.vm, 0, &full);
    if (const std::string stale = stage.stale(); result == 0 && !stale.empty())
      findings.fail(53, "vcpu_reset returned 0 where add gave {}, and left {}", refusal, stale);
  }
  stage.tear_down();
}

void batch_entries_have_no_flags(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 49);
  ResetStage stage(scene);
  if (!stage.set_up()) return;
  ProbeSink& batch = ProbeSink::lend(findings, ProbeSink::batch);
  stage.life->reset(*stage.vm, 0, &batch);
  if (batch.adds == 0) return findings.not_applicable(49, "it adds nothing to a batch");
  stage.tear_down();
}

void requests_have_kvms_layout(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 54);
  ResetStage stage(scene);
  if (!stage.set_up_with_own_writes()) return;
  stage.tear_down();
}

// ---- lists

/// The plugin's list of a VM with one vCPU that was reset. Empty: noted as not applicable.
class ListStage {
 public:
  explicit ListStage(Scene& scene) : scene_(scene) {}

  bool set_up() {
    life_ = scene_.live(kMsrListBuild);
    if (life_ == nullptr) return false;
    vm_ = scene_.vm(*life_, 1);
    if (vm_ == nullptr) return false;
    life_->host.drop(life_->host.vcpu_handle(*vm_, 0));  // makes the vCPU
    ProbeSink& sink = ProbeSink::lend(scene_.findings, ProbeSink::list);
    const int32_t result = life_->msr_list(*vm_, sink);
    list = sink.entries;
    if (result != 0)
      scene_.findings.not_applicable(scene_.rule, "msr_list_build failed with {}: {}", result,
                                     life_->hook_text);
    else if (list.empty())
      scene_.findings.not_applicable(scene_.rule, "it lists no MSR");
    return result == 0 && !list.empty();
  }
  void tear_down() {
    life_->end_vm(*vm_);
    life_->destroy();
  }
  Vcpu& vcpu() { return *vm_->vcpus[0]; }

  std::vector<vmm_msr> list;

 private:
  Scene& scene_;
  std::unique_ptr<Life> life_;
  std::unique_ptr<Machine> vm_;
};

bool is_saved(const vmm_msr& entry) { return (entry.flags & VMM_MSR_SAVED) != 0; }

void adds_are_well_formed(Findings& findings, const Subject& subject) {
  // the sinks note what is wrong
  Scene scene(findings, subject, 47);
  const auto life = scene.live();
  if (life == nullptr) return;
  const auto vm = scene.vm(*life);
  if (vm == nullptr) return;
  ProbeSink& list = ProbeSink::lend(findings, ProbeSink::list);
  ProbeSink& batch = ProbeSink::lend(findings, ProbeSink::batch);
  if (life->has(kMsrListBuild)) life->msr_list(*vm, list);
  if (life->has(kVcpuReset)) life->reset(*vm, 0, &batch);
  life->end_vm(*vm);
  life->destroy();
  if (list.adds + batch.adds == 0) findings.not_applicable(47, "it adds nothing to list or batch");
}

void saved_once(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 56);
  ListStage stage(scene);
  if (!stage.set_up()) return;
  std::set<uint32_t> saved;
  for (const vmm_msr& entry : stage.list)
    if (is_saved(entry) && !saved.insert(entry.index).second)
      findings.fail(56, "MSR {:08x} is SAVED twice", entry.index);
  if (saved.empty()) findings.not_applicable(56, "it lists no MSR as SAVED");
  stage.tear_down();
}

void constants_can_be_written(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 57);
  ListStage stage(scene);
  if (!stage.set_up()) return;
  int constants = 0;
  for (const vmm_msr& entry : stage.list) {
    if (is_saved(entry) || !host_kit::get_msr(stage.vcpu(), entry.index)) continue;
    ++constants;
    if (!host_kit::set_msr(stage.vcpu(), entry.index, entry.value))
      findings.fail(57, "the constant {:08x} = {:x} is refused by a KVM that has the register",
                    entry.index, entry.value);
  }
  if (constants == 0)
    findings.not_applicable(57, "it lists no constant of a register that is here");
  stage.tear_down();
}

void required_values_survive_here(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 58);
  ListStage stage(scene);
  if (!stage.set_up()) return;
  int required = 0;
  for (const vmm_msr& entry : stage.list) {
    if ((entry.flags & VMM_MSR_REQUIRED) == 0) continue;
    ++required;
    for (const uint64_t value : {0x530076ULL, 0x1000ULL, 0x1ULL}) {
      if (!host_kit::set_msr(stage.vcpu(), entry.index, value)) continue;
      const uint64_t saved = host_kit::get_msr(stage.vcpu(), entry.index).value_or(0);
      if ((saved & entry.value) != saved)
        findings.fail(58, "the mask {:x} cuts what the required {:08x} holds here: {:x}",
                      entry.value, entry.index, saved);
    }
  }
  if (required == 0) findings.not_applicable(58, "it lists no MSR as REQUIRED");
  stage.tear_down();
}

/// Where an MSR first stands in a list, by a condition; the list's length if nowhere.
template <typename Condition>
std::size_t place_of(const std::vector<vmm_msr>& list, Condition condition) {
  return static_cast<std::size_t>(std::ranges::find_if(list, condition) - list.begin());
}

void nothing_counts_during_a_restore(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 55);
  ListStage stage(scene);
  if (!stage.set_up()) return;
  const std::vector<vmm_msr>& list = stage.list;
  const auto saved_at = [&](uint32_t msr) {
    return place_of(list,
                    [&](const vmm_msr& entry) { return entry.index == msr && is_saved(entry); });
  };
  int selectors = 0;
  for (std::size_t at = 0; at < list.size(); ++at) {
    const auto known = pmu_msr(list[at].index);
    if (!known || !is_saved(list[at])) continue;
    const uint32_t msr = list[at].index;
    if (known->bank == PmuBank::global) {
      if (msr != kMsrGlobalCtl) continue;
      for (std::size_t later = at + 1; later < list.size(); ++later)
        if (pmu_msr(list[later].index) && is_saved(list[later]))
          findings.fail(55, "saved {:08x} is restored behind GLOBAL_CTL, which starts it",
                        list[later].index);
      continue;
    }
    if (!known->selector) continue;
    ++selectors;
    const uint32_t counter = known->bank == PmuBank::legacy ? kMsrLegacyCtr0 + known->index
                                                            : kMsrCtr0 + 2 * known->index;
    const std::size_t counter_at = saved_at(counter);
    if (counter_at != list.size() && counter_at > at)
      findings.fail(55, "selector {:08x} is restored before its counter {:08x}, and starts it", msr,
                    counter);
    // what runs already is stopped before its counter is written
    const std::size_t stopped_at = place_of(list, [&](const vmm_msr& entry) {
      return entry.index == msr && !is_saved(entry) && (entry.value & kSelectorEn) == 0;
    });
    if (stopped_at > std::min(at, counter_at))
      findings.fail(55, "selector {:08x} is not stopped before it or its counter is restored", msr);
  }
  if (selectors == 0) findings.not_applicable(55, "it saves no event selector of AMD's PMU");
  stage.tear_down();
}

constexpr Check kChecks[] = {
    {33, repeating_is_harmless},
    {47, adds_are_well_formed},
    {49, batch_entries_have_no_flags},
    {51, short_counts_are_no_success},
    {53, full_batches_are_no_success},
    {53, failed_writes_are_no_success},
    {54, requests_have_kvms_layout},
    {55, nothing_counts_during_a_restore},
    {56, saved_once},
    {57, constants_can_be_written},
    {58, required_values_survive_here},
};

}  // namespace

std::span<const Check> msr_checks() { return kChecks; }

}  // namespace host_stub::validate
