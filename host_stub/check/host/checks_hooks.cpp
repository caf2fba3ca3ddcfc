// SPDX-License-Identifier: MIT
//
// Which hooks came, in which order, on which threads.
#include <algorithm>
#include <cerrno>
#include <map>

#include "check/host/checks.hpp"

namespace host_stub {
namespace {

bool is_hook(const HookCall& call, std::string_view name) { return call.hook == name; }

const RecordLine& line_of(const Instance& instance, const HookCall& call) {
  return instance.lines[call.at];
}

/// A VM of an instance, from where vm_created returned 0.
struct VmLife {
  int64_t vm;
  const HookCall* created;
  const HookCall* destroyed = nullptr;  ///< the first vm_destroyed of it

  bool holds(const HookCall& call) const {
    return call.vm == vm && call.at > created->at &&
           (destroyed == nullptr || call.at <= destroyed->at);
  }
};

std::vector<VmLife> lives_of(const Instance& instance) {
  std::vector<VmLife> lives;
  for (const HookCall& call : instance.calls) {
    if (is_hook(call, "vm_created") && call.left() && call.result == 0)
      lives.push_back({call.vm, &call});
    if (!is_hook(call, "vm_destroyed")) continue;
    for (VmLife& life : lives)
      if (life.vm == call.vm && life.destroyed == nullptr) life.destroyed = &call;
  }
  return lives;
}

bool has_result(const Instance& instance, const char* what, int64_t result) {
  return std::ranges::any_of(instance.all("answer", what), [&](const RecordLine* line) {
    return number(*line, "result") == result;
  });
}

/// Calls of one VM that may run at one time.
bool may_overlap(const Instance& instance, const HookCall& a, const HookCall& b) {
  return a.vm != b.vm ||
         (is_hook(a, "vcpu_reset") && is_hook(b, "vcpu_reset") &&
          number(line_of(instance, a), "index") != number(line_of(instance, b), "index"));
}

}  // namespace

void check_null_hooks(const Instances& instances, Verdicts& verdicts) {
  const auto resets = [](const Instance& instance) {
    return std::ranges::any_of(instance.calls,
                               [](const HookCall& call) { return is_hook(call, "vcpu_reset"); });
  };
  const bool elsewhere = std::ranges::any_of(instances, [&](const Instance& instance) {
    return instance.run == "watch" && resets(instance);
  });
  for (const Instance* instance : of_runs(instances, {"only-reset", "no-vm-created"})) {
    if (resets(*instance))
      verdicts.pass();
    else if (elsewhere && instance->created())
      verdicts.fail(
          *instance,
          "no vcpu_reset came without the hooks that are NULL, and in run watch one came");
  }
}

void check_vm_created(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances) {
    if (!instance.has_vm_created) continue;
    for (const HookCall& call : instance.calls) {
      const RecordLine& line = line_of(instance, call);
      if (!is_hook(call, "vm_created")) {
        const bool first = std::ranges::none_of(instance.calls, [&](const HookCall& other) {
          return is_hook(other, "vm_created") && other.at < call.at;
        });
        if (first) verdicts.fail(instance, fmt::format("{} came before vm_created", call.hook));
        continue;
      }
      const bool twice = std::ranges::any_of(lives_of(instance), [&](const VmLife& life) {
        return life.created->at < call.at &&
               (life.destroyed == nullptr || life.destroyed->at > call.at) &&
               text(line_of(instance, *life.created), "handle") == text(line, "handle");
      });
      if (text(line, "handle").empty())
        verdicts.fail(instance, "vm_created with handle NULL");
      else if (twice)
        verdicts.fail(instance, "vm_created came again for a VM that had it");
      else if (number(line, "max_vcpus") < 1)
        verdicts.fail(instance, "vm_created with max_vcpus 0");
      else
        verdicts.judge(instance, !truth(line, "vm_ctx_null"),
                       "*vm_ctx was not NULL when vm_created was called");
    }
    if (has_result(instance, "boot_cpu", -EBUSY) || has_result(instance, "pmu_capability", -EINVAL))
      verdicts.fail(instance, "in vm_created the VM had a vCPU already");
  }
}

void check_several_vms(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances) {
    if (!instance.has_vm_created) continue;
    const auto lives = lives_of(instance);
    std::string wrong;
    for (const HookCall& call : instance.calls) {
      if (call.vm < 0) wrong = fmt::format("{} with a vm_ctx that no vm_created gave", call.hook);
      if (!is_hook(call, "msr_list_build")) continue;
      for (const VmLife& life : lives)
        if (life.holds(call) && text(line_of(instance, call), "handle") !=
                                    text(line_of(instance, *life.created), "handle"))
          wrong = "msr_list_build with the handle of one VM and the vm_ctx of another";
    }
    if (!wrong.empty())
      verdicts.fail(instance, wrong);
    else if (lives.size() > 1)
      verdicts.pass();
  }
}

void check_refused_vm(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"fail-vm-created"})) {
    bool refused = false;
    std::string wrong;
    for (const HookCall& call : instance->calls) {
      if (is_hook(call, "vm_created"))
        refused = true;
      else if (refused)
        wrong = fmt::format("vm_created returned an error, and {} was called", call.hook);
    }
    if (refused) verdicts.judge(*instance, !wrong.empty(), wrong);
  }
}

void check_vm_destroyed(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances) {
    const auto lives = lives_of(instance);
    const auto ends = std::ranges::count_if(
        instance.calls, [](const HookCall& call) { return is_hook(call, "vm_destroyed"); });
    std::string wrong;
    for (const HookCall& call : instance.calls) {
      if (is_hook(call, "vm_created") || call.vm <= 0) continue;
      if (std::ranges::none_of(lives, [&](const VmLife& life) { return life.holds(call); }))
        wrong = fmt::format("{} came for VM {}, which had its vm_destroyed", call.hook, call.vm);
    }
    if (instance.destroy() != nullptr)
      for (const VmLife& life : lives)
        if (life.destroyed == nullptr)
          wrong = fmt::format("VM {} had no vm_destroyed before destroy", life.vm);
    if (instance.run == "no-vm-created") {
      if (ends == 0 && instance.destroy() != nullptr)
        wrong = "no vm_destroyed came before destroy; vm_created is NULL";
      for (const HookCall& call : instance.calls)
        if (call.vm != 0) wrong = fmt::format("{} with a vm_ctx; vm_created is NULL", call.hook);
    }
    if (!wrong.empty())
      verdicts.fail(instance, wrong);
    else if (ends > 0)
      verdicts.pass();
  }
}

void check_vcpu_index(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances)
    for (const HookCall& call : instance.calls) {
      if (!is_hook(call, "vcpu_reset")) continue;
      const RecordLine& line = line_of(instance, call);
      std::string wrong;
      if (text(line, "handle").empty()) wrong = "vcpu_reset with handle NULL";
      for (const VmLife& life : lives_of(instance)) {
        const int64_t most = number(line_of(instance, *life.created), "max_vcpus");
        if (life.holds(call) && number(line, "index") >= most)
          wrong =
              fmt::format("vcpu_reset with index {}, max_vcpus is {}", number(line, "index"), most);
      }
      for (const HookCall& other : instance.calls)
        if (&other != &call && is_hook(other, "vcpu_reset") && other.overlaps(call) &&
            text(line_of(instance, other), "handle") == text(line, "handle") &&
            number(line_of(instance, other), "index") != number(line, "index"))
          wrong = "one handle with two indexes at one time";
      verdicts.judge(instance, !wrong.empty(), wrong);
    }
}

void check_msr_list_build(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances)
    for (const HookCall& call : instance.calls) {
      if (!is_hook(call, "msr_list_build")) continue;
      const bool early = instance.has_vm_created && call.vm == 0;
      // known later, but not yet where it was needed
      const bool unknown =
          has_result(instance, "cpuid_list", -ENOENT) && has_result(instance, "cpuid_vcpu", 0);
      verdicts.judge(instance, early || unknown,
                     early ? "msr_list_build without the vm_ctx of a vm_created"
                           : "msr_list_build came before the guest's CPUID was known, which "
                             "vcpu_reset found known");
    }
}

void check_overlaps(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances) {
    std::string wrong;
    for (std::size_t i = 0; i < instance.calls.size(); ++i)
      for (std::size_t j = i + 1; j < instance.calls.size(); ++j) {
        const HookCall &first = instance.calls[i], &second = instance.calls[j];
        if (second.at > first.end) break;  // nor do those behind it
        // one that nests on a thread is rule 38's
        if (first.vm > 0 && first.left() && first.thread != second.thread &&
            !may_overlap(instance, first, second))
          wrong =
              fmt::format("{} and {} of VM {} ran at one time", first.hook, second.hook, first.vm);
      }
    if (!wrong.empty())
      verdicts.fail(instance, wrong);
    else if (!instance.calls.empty())
      verdicts.pass();
  }
}

void check_nesting(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances) {
    std::map<std::string, const HookCall*> running;  // by thread
    const std::size_t end = instance.destroyed_at();
    std::string wrong;
    for (const HookCall& call : instance.calls) {
      const HookCall*& before = running[call.thread];
      if (before != nullptr && before->end > call.at)
        wrong = fmt::format("{} came on a thread that was in {}{}", call.hook, before->hook,
                            before->left() ? "" : " and never came out of it");
      before = &call;
      if (!call.left() && end != HookCall::kNever)
        wrong = fmt::format("{} was entered and never left, and destroy came", call.hook);
    }
    if (!wrong.empty())
      verdicts.fail(instance, wrong);
    else if (!instance.calls.empty())
      verdicts.pass();
  }
}

}  // namespace host_stub
