// SPDX-License-Identifier: MIT
//
// with_faults: what the rules of a plan make of a call.
#include "kvm/faults.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <mutex>
#include <span>

#include "kvm/intercept.hpp"
#include "kvm/msr_request.hpp"

namespace host_stub {
namespace {

// What becomes of one call.
struct Verdict {
  int32_t error = 0;                                        // errno; 0: none
  uint32_t stop_at = std::numeric_limits<uint32_t>::max();  // MSR entry
  std::vector<uint32_t> swallowed;                          // MSRs
  std::vector<ReadValue> values;

  bool edits_msrs(size_t entries) const {
    return stop_at < entries || !swallowed.empty() || !values.empty();
  }
};

// SplitMix64 (Steele, Lea, Flood 2014). The distributions of <random> are not the same everywhere.
uint64_t next_random(uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  uint64_t mixed = state;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

constexpr int32_t kRandomErrors[] = {EINTR, EINVAL, EIO};

size_t index_of(std::span<const kvm_msr_entry> entries, uint32_t msr) {
  const auto found = std::ranges::find(entries, msr, &kvm_msr_entry::index);
  return static_cast<size_t>(found - entries.begin());
}

// One rule and what it has seen.
class Rule {
 public:
  explicit Rule(Fault fault) : fault_(std::move(fault)) {
    if (const auto* random = std::get_if<RandomFault>(&fault_.effect)) random_ = random->seed;
  }

  void judge(const IoctlCall& call, std::span<const kvm_msr_entry> entries, Verdict& verdict) {
    if (fault_.spare_system && call.level == IoctlLevel::system) return;
    if (!fault_.ioctls.empty() &&
        std::ranges::find(fault_.ioctls, call.request) == fault_.ioctls.end()) {
      return;
    }
    Verdict changed = verdict;
    if (!std::visit([&](const auto& effect) { return apply(effect, entries, changed); },
                    fault_.effect)) {
      return;
    }
    ++calls_;
    if (fault_.only_call == 0 || fault_.only_call == calls_) verdict = std::move(changed);
  }

 private:
  using Entries = std::span<const kvm_msr_entry>;

  // Each: whether the rule would change the call, and the change.
  static bool fail(int32_t error, Verdict& verdict) {
    if (verdict.error == 0) verdict.error = error;
    return true;
  }
  static bool stop(size_t entry, Entries entries, Verdict& verdict) {
    if (entry >= entries.size()) return false;
    verdict.stop_at = std::min(verdict.stop_at, static_cast<uint32_t>(entry));
    return true;
  }
  static bool apply(const FailWith& effect, Entries, Verdict& verdict) {
    return fail(effect.number, verdict);
  }
  static bool apply(const ShortCount& effect, Entries entries, Verdict& verdict) {
    return stop(effect.entry, entries, verdict);
  }
  static bool apply(const RefuseMsr& effect, Entries entries, Verdict& verdict) {
    return stop(index_of(entries, effect.msr), entries, verdict);
  }
  static bool apply(const ReadValue& effect, Entries entries, Verdict& verdict) {
    verdict.values.push_back(effect);
    return index_of(entries, effect.msr) < entries.size();
  }
  static bool apply(const SwallowWrite& effect, Entries entries, Verdict& verdict) {
    verdict.swallowed.push_back(effect.msr);
    return index_of(entries, effect.msr) < entries.size();
  }
  bool apply(const InterruptEvery& effect, Entries, Verdict& verdict) {
    return ++seen_ % effect.calls == 0 && fail(EINTR, verdict);
  }
  bool apply(const RandomFault& effect, Entries entries, Verdict& verdict) {
    if (next_random(random_) % 100 >= effect.percent) return false;
    const size_t kinds = std::size(kRandomErrors) + (entries.empty() ? 0 : 1);
    const size_t kind = next_random(random_) % kinds;
    if (kind < std::size(kRandomErrors)) return fail(kRandomErrors[kind], verdict);
    return stop(next_random(random_) % entries.size(), entries, verdict);
  }

  Fault fault_;
  uint64_t calls_ = 0;   // that it changed, or would have without #N
  uint64_t seen_ = 0;    // of eintr:every
  uint64_t random_ = 0;  // state
};

// The call with the entries that are left of it; the result in entries of the caller's.
int32_t edited_msr_call(const IoctlCall& call, std::span<kvm_msr_entry> entries,
                        const Verdict& verdict, const IoctlInner& inner) {
  const size_t end = std::min<size_t>(verdict.stop_at, entries.size());
  MsrRequest left;
  std::vector<uint32_t> places;  // of the entries that are left
  for (uint32_t i = 0; i < end; ++i) {
    if (std::ranges::find(verdict.swallowed, entries[i].index) != verdict.swallowed.end()) continue;
    left.add(entries[i]);
    places.push_back(i);
  }
  const int32_t result = places.empty() ? 0 : inner(left.arg());
  if (result < 0) return result;
  const auto done = static_cast<size_t>(result);
  const size_t reached = done < places.size() ? places[done] : end;
  if (call.request == VMM_KVM_GET_MSRS) {
    for (size_t i = 0; i < std::min(done, places.size()); ++i) {
      entries[places[i]].data = left.entries()[i].data;
    }
    for (kvm_msr_entry& entry : entries.first(reached)) {
      for (const ReadValue& wrong : verdict.values) {
        if (wrong.msr == entry.index) entry.data = wrong.value;
      }
    }
  }
  return static_cast<int32_t>(reached);
}

class Faults {
 public:
  explicit Faults(const FaultPlan& plan) : rules_(plan.faults.begin(), plan.faults.end()) {}

  int32_t operator()(const IoctlCall& call, const IoctlInner& inner) {
    const std::span<kvm_msr_entry> entries =
        is_msr_request(call.request) ? msr_entries(call.arg) : std::span<kvm_msr_entry>();
    const Verdict verdict = judge(call, entries);
    if (verdict.error != 0) return -verdict.error;
    if (!verdict.edits_msrs(entries.size())) return inner(call.arg);
    return edited_msr_call(call, entries, verdict, inner);
  }

 private:
  Verdict judge(const IoctlCall& call, std::span<const kvm_msr_entry> entries) {
    const std::lock_guard lock(mutex_);
    Verdict verdict;
    for (Rule& rule : rules_) rule.judge(call, entries, verdict);
    return verdict;
  }

  std::mutex mutex_;
  std::vector<Rule> rules_;
};

}  // namespace

std::unique_ptr<Kvm> with_faults(std::unique_ptr<Kvm> kvm, const FaultPlan& plan) {
  auto faults = std::make_shared<Faults>(plan);
  return intercept_ioctls(std::move(kvm), [faults](const IoctlCall& call, const IoctlInner& inner) {
    return (*faults)(call, inner);
  });
}

}  // namespace host_stub
