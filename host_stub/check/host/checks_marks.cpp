// SPDX-License-Identifier: MIT
//
// What vcpu_reset found in the registers that the one before it had marked. A mark that is gone
// says something only where marks are known to stay: where one that was written by ioctl was still
// there at the next reset, so that neither the VMM's own reset nor the guest writes the register.
#include <algorithm>

#include "check/host/checks.hpp"

namespace host_stub {
namespace {

/// enum mark of host_conformance.c
constexpr int64_t kFirst = 0x22, kDropped = 0x44, kConstant = 0x55;
constexpr int64_t kListMask = 0xffffff00;
constexpr int64_t kKind = 0xff;

/// A mark, and what the next reset of that vCPU found.
struct Marked {
  std::string how;
  int64_t result;  ///< of writing or adding it
  int64_t wanted;
  int64_t value, value2;  ///< found
};

std::vector<Marked> marks_of(const Instance& instance) {
  std::vector<Marked> found;
  const auto reads = instance.all("read");
  const auto vm_of = [&](const RecordLine& line) {
    const HookCall* call = instance.call_of(line);
    return call == nullptr ? -1 : call->vm;
  };
  for (const RecordLine* mark : instance.all("mark")) {
    const auto next = std::ranges::find_if(reads, [&](const RecordLine* read) {
      return number(*read, "index") == number(*mark, "index") &&
             number(*read, "reset") == number(*mark, "reset") + 1 && vm_of(*read) == vm_of(*mark);
    });
    if (next == reads.end() || number(**next, "result") != 1) continue;
    found.push_back({text(*mark, "how"), number(*mark, "result"), number(*mark, "value"),
                     number(**next, "value"), number(**next, "value2")});
  }
  return found;
}

bool marks_stay(const std::vector<Marked>& marks) {
  return std::ranges::any_of(marks, [](const Marked& mark) {
    return mark.how == "direct" && mark.result == 1 && mark.value == mark.wanted;
  });
}

constexpr const char* kDoNotStay =
    "marks do not stay: the VMM's reset or the guest writes the register; choose others by msr= "
    "and msr2=";

/// Batches of one kind: the value that was added last has to be there.
void check_batches(const Instances& instances, Verdicts& verdicts, std::string_view how,
                   const char* stopped) {
  for (const Instance* instance : of_runs(instances, {"batch"})) {
    const auto marks = marks_of(*instance);
    for (const Marked& mark : marks) {
      if (mark.how != how) continue;
      if (mark.result != 0) {
        verdicts.not_applicable(fmt::format("add refused the entries with {}", mark.result));
        continue;
      }
      if (mark.value == mark.wanted)
        verdicts.pass();
      else if (mark.value == (mark.wanted & ~kKind) + kFirst)
        verdicts.fail(*instance, stopped);
      else if (marks_stay(marks))
        verdicts.fail(*instance, fmt::format("a batch ended in {:x}, and the next reset found {:x}",
                                             mark.wanted, mark.value));
      else
        verdicts.not_applicable(kDoNotStay);
    }
  }
}

/// What a restore of the run's list leaves.
struct Restored {
  const Instance* instance;
  Marked mark;  ///< the one before it
  bool masked;  ///< the saved register has a mark of this vCPU, cut by the mask
  bool constant;
  bool stay, stay2;  ///< marks in the two registers stay
};

/// The restores that can be seen, between two resets.
std::vector<Restored> restores_of(const Instances& instances) {
  std::vector<Restored> found;
  for (const Instance* instance : of_runs(instances, {"list"})) {
    const auto marks = marks_of(*instance);
    for (const Marked& mark : marks) {
      const bool masked = std::ranges::any_of(marks, [&](const Marked& earlier) {
        return mark.value == (earlier.wanted & kListMask) && earlier.wanted <= mark.wanted;
      });
      const bool constant = mark.value2 == kConstant || mark.value2 == kFirst;
      const bool stay2 = std::ranges::any_of(
          marks, [](const Marked& other) { return other.value2 == other.wanted; });
      if (masked || constant)
        found.push_back({instance, mark, masked, constant, marks_stay(marks), stay2});
    }
  }
  return found;
}

}  // namespace

void check_batch_order(const Instances& instances, Verdicts& verdicts) {
  check_batches(instances, verdicts, "order",
                "of two values of a register in a batch the first was written last");
  for (const Instance* instance : of_runs(instances, {"fail-reset"})) {
    const auto marks = marks_of(*instance);
    for (const Marked& mark : marks)
      if (mark.how == "dropped" && mark.result == 0)
        verdicts.judge(*instance, mark.value == mark.wanted,
                       "vcpu_reset returned an error, and what it had added was written");
  }
}

void check_batch_refused(const Instances& instances, Verdicts& verdicts) {
  check_batches(instances, verdicts, "refused",
                "a batch was not written behind the register that KVM refuses");
}

void check_batch_long(const Instances& instances, Verdicts& verdicts) {
  check_batches(instances, verdicts, "long", "of 300 entries the first was written last");
}

void check_list_order(const Instances& instances, Verdicts& verdicts) {
  for (const Restored& restored : restores_of(instances))
    if (restored.constant)
      verdicts.judge(*restored.instance, restored.mark.value2 == kFirst,
                     "of two values of a register in the list the first was restored last");
}

void check_list_saved(const Instances& instances, Verdicts& verdicts) {
  for (const Restored& restored : restores_of(instances)) {
    if (restored.masked)
      verdicts.pass();
    else if (!restored.stay)
      verdicts.not_applicable(kDoNotStay);
    else
      verdicts.fail(
          *restored.instance,
          fmt::format("a restore left {:x} in the saved register, not {:x}, which is {:x} & {:x}",
                      restored.mark.value, restored.mark.wanted & kListMask, restored.mark.wanted,
                      kListMask));
  }
}

void check_list_constant(const Instances& instances, Verdicts& verdicts) {
  for (const Restored& restored : restores_of(instances))
    if (!restored.constant && !restored.stay2)
      verdicts.not_applicable(kDoNotStay);
    else
      verdicts.judge(*restored.instance, !restored.constant,
                     fmt::format("a restore left {:x} in the register of the constant {:x}",
                                 restored.mark.value2, kConstant));
}

void check_failed_list(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"fail-list"})) {
    if (instance->all("answer", "add_list").empty()) continue;
    for (const Marked& mark : marks_of(*instance))
      verdicts.judge(*instance, mark.value2 == kDropped,
                     "msr_list_build returned an error, and its entries were restored");
  }
}

}  // namespace host_stub
