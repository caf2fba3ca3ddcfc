// SPDX-License-Identifier: MIT
//
// What the host's callbacks and sinks answered.
#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "check/host/checks.hpp"

namespace host_stub {
namespace {

constexpr int64_t kUntouched = 0xdeadbeef;
constexpr std::array<const char*, 4> kRegisters{"eax", "ebx", "ecx", "edx"};

/// The result of the first such answer; `missing` if there is none.
int64_t result_of(const Instance& instance, const char* what, int64_t missing) {
  const auto lines = instance.all("answer", what);
  return lines.empty() ? missing : number(*lines.front(), "result");
}

/// Letters, digits and blanks, as any vendor's twelve are.
bool is_vendor(const RecordLine& line) {
  for (const char* name : {"ebx", "edx", "ecx"})
    for (int byte = 0; byte < 4; ++byte) {
      const int64_t c = number(line, name) >> (8 * byte) & 0xff;
      if (c < 0x20 || c > 0x7e) return false;
    }
  return true;
}

/// What is wrong with an answer of get_cpuid; "" = nothing.
std::string wrong_cpuid(const RecordLine& line, bool leaf_exists) {
  const int64_t result = number(line, "result");
  if (result == -ENOENT) return "";
  if (result != 0) return fmt::format("returned {}", result);
  for (const char* name : kRegisters) {
    if (number(line, name) == kUntouched) return fmt::format("did not write {}", name);
    if (!leaf_exists && number(line, name) != 0)
      return fmt::format("gave {} = {:x} for a leaf that no guest has", name, number(line, name));
  }
  if (leaf_exists && (number(line, "eax") < 1 || !is_vendor(line)))
    return "gave no highest leaf and vendor for leaf 0";
  return "";
}

/// An unknown request: an error of KVM's, not the -1 of ioctl(2) itself.
void judge_unknown(const Instance& instance, Verdicts& verdicts, const char* what,
                   const char* words) {
  for (const RecordLine* line : instance.all("answer", what)) {
    const int64_t result = number(*line, "result");
    if (result >= 0)
      verdicts.fail(instance,
                    fmt::format("{} of a request that does not exist returned {}", words, result));
    else
      verdicts.judge(instance, result == -1,
                     fmt::format("{} of a request that does not exist returned -1, which is what "
                                 "ioctl returns and not -errno",
                                 words));
  }
}

void judge_msrs(const Instance& instance, Verdicts& verdicts) {
  for (const RecordLine* line : instance.all("answer", "too_many_msrs"))
    verdicts.judge(instance, number(*line, "result") != -E2BIG,
                   fmt::format("KVM_GET_MSRS of 256 MSRs returned {}, KVM says -E2BIG",
                               number(*line, "result")));
  for (const RecordLine* line : instance.all("answer", "msr")) {
    const bool counted = number(*line, "result") == 1 && number(*line, "read") == 1;
    verdicts.judge(
        instance, !counted || !truth(*line, "kept"),
        fmt::format(
            "KVM_SET_MSRS and KVM_GET_MSRS of one MSR returned {} and {}, and the value was {}",
            number(*line, "result"), number(*line, "read"),
            truth(*line, "kept") ? "there" : "not there"));
  }
  for (const RecordLine* line : instance.all("answer", "msr_read")) {
    const int64_t result = number(*line, "result");
    if (result == 0 && !truth(*line, "written"))
      verdicts.not_applicable("KVM does not read the register of msr=");
    else
      verdicts.fail(instance, fmt::format("KVM_GET_MSRS of one MSR returned {}{}", result,
                                          truth(*line, "written") ? " and read it" : ""));
  }
}

}  // namespace

void check_threads(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"threads"}))
    for (const RecordLine* asked : instance->all("ask")) {
      const std::string what = text(*asked, "what");
      const RecordLine* answer = nullptr;
      for (const RecordLine* line : instance->all("answer", what))
        if (number(*line, "call") == number(*asked, "call")) answer = line;
      if (answer == nullptr)
        verdicts.fail(*instance, what + " did not come back");
      else
        verdicts.judge(*instance, number(*answer, "result") != number(*answer, "here"),
                       fmt::format("{} returned {}, on the hook's thread {}", what,
                                   number(*answer, "result"), number(*answer, "here")));
    }
}

void check_ioctls(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"ask"})) {
    if (instance->all("answer", "capability").empty()) continue;
    const int64_t known = result_of(*instance, "capability", 0);
    const int64_t unknown = result_of(*instance, "no_capability", 0);
    judge_unknown(*instance, verdicts, "no_vm_request", "vm_ioctl");
    judge_unknown(*instance, verdicts, "no_vcpu_request", "vcpu_ioctl");
    if (known < 0)
      verdicts.fail(*instance, fmt::format("KVM_CHECK_EXTENSION returned {}", known));
    else if (unknown != 0)
      verdicts.fail(*instance, fmt::format("KVM_CHECK_EXTENSION returned {} for a capability that "
                                           "does not exist: its argument was changed",
                                           unknown));
    else if (known == 0)
      verdicts.not_applicable("KVM_CAP_USER_MEMORY reads 0: there is no KVM behind this host");
    else
      judge_msrs(*instance, verdicts);
  }
}

void check_cpuid(const Instances& instances, Verdicts& verdicts) {
  struct Question {
    const char* what;
    const char* words;
    bool leaf_exists;
  };
  constexpr Question kQuestions[] = {
      {"cpuid_vm", "get_cpuid of the VM, leaf 0, in vm_created", true},
      {"cpuid_list", "get_cpuid of the VM, leaf 0, in msr_list_build", true},
      {"cpuid_vcpu", "get_cpuid of the vCPU, leaf 0", true},
      {"cpuid_no_leaf", "get_cpuid of the vCPU, leaf 8fffffff", false},
  };
  for (const Instance* instance : of_runs(instances, {"ask"}))
    for (const Question& question : kQuestions)
      for (const RecordLine* line : instance->all("answer", question.what)) {
        const std::string wrong = wrong_cpuid(*line, question.leaf_exists);
        verdicts.judge(*instance, !wrong.empty(), fmt::format("{} {}", question.words, wrong));
      }
}

void check_extensions(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"ask"}))
    for (const RecordLine* line : instance->all("answer", "get_extension"))
      verdicts.judge(*instance, number(*line, "result") != 0,
                     "get_extension returned a table for an id that nobody defined");
}

void check_cpuid_set(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"ask"}))
    for (const RecordLine* line : instance->all("answer", "cpuid2")) {
      // asked with no room: KVM has something to say only if CPUID was set
      const int64_t result = number(*line, "result");
      if (result == 0)
        verdicts.fail(*instance, "vcpu_reset came before KVM_SET_CPUID2 of its vCPU");
      else if (result == -E2BIG)
        verdicts.pass();
    }
}

void check_sinks(const Instances& instances, Verdicts& verdicts) {
  struct Question {
    const char* what;
    const char* words;
    int64_t wanted;
  };
  constexpr Question kQuestions[] = {
      {"add_none", "add with count 0", -EINVAL},
      {"add_null", "add of NULL", -EINVAL},
      {"add_unknown_flag", "add of two entries, the second with an unknown flag,", -EINVAL},
      {"add_required_alone", "add of REQUIRED without SAVED", -EINVAL},
      {"add_saved", "add of a SAVED entry", 0},
      {"add_saved_again", "add of a second SAVED entry of one MSR", -EEXIST},
      {"add_half", "add of two SAVED entries, the second one there already,", -EEXIST},
      {"add_after_half", "add of the first of two entries that were refused together", 0},
  };
  for (const Instance* instance : of_runs(instances, {"ask"}))
    for (const Question& question : kQuestions)
      for (const RecordLine* line : instance->all("answer", question.what)) {
        const HookCall* call = instance->call_of(*line);
        verdicts.judge(*instance, number(*line, "result") != question.wanted,
                       fmt::format("{}: {} returned {}, not {}", call != nullptr ? call->hook : "?",
                                   question.words, number(*line, "result"), question.wanted));
      }
}

void check_deny_msrs(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"ask"}))
    for (const RecordLine* line : instance->all("answer", "deny_msrs_40")) {
      const int64_t many = number(*line, "result");
      const int64_t one = result_of(*instance, "deny_msrs_1", 0);
      for (const int64_t result : {many, one})
        if (result != 0 && result != -ENOSPC && result != -EOPNOTSUPP)
          verdicts.fail(*instance, fmt::format("deny_msrs returned {}", result));
      verdicts.judge(*instance, many == -ENOSPC && one == -ENOSPC,
                     "deny_msrs had no room for 40 ranges and then none for one of them: some of "
                     "the 40 were taken, or the host's own filter is full");
    }
}

void check_hidden(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"ask"})) {
    for (const RecordLine* line : instance->all("answer", "hidden_bit_told"))
      verdicts.judge(*instance, number(*line, "result") != 0,
                     "get_cpuid shows a bit that hide_cpuid hid");
    for (const RecordLine* line : instance->all("answer", "hidden_bit_in_kvm"))
      verdicts.judge(*instance, number(*line, "result") != 0,
                     "KVM_GET_CPUID2 shows a bit that hide_cpuid hid");
  }
}

void check_hide_cpuid(const Instances& instances, Verdicts& verdicts) {
  constexpr std::array<std::pair<const char*, const char*>, 4> kRefused{{
      {"hide_none", "a count of 0"},
      {"hide_null", "NULL"},
      {"hide_no_register", "a reg of 4"},
      {"hide_no_bit", "a mask of 0"},
  }};
  for (const Instance* instance : of_runs(instances, {"ask"})) {
    for (const auto& [what, words] : kRefused)
      for (const RecordLine* line : instance->all("answer", what))
        verdicts.judge(
            *instance, number(*line, "result") != -EINVAL,
            fmt::format("hide_cpuid with {} returned {}", words, number(*line, "result")));
    for (const RecordLine* line : instance->all("answer", "hide")) {
      const int64_t result = number(*line, "result");
      verdicts.judge(*instance, result != 0 && result != -ENOSPC,
                     fmt::format("hide_cpuid of one bit returned {}", result));
    }
  }
}

void check_supported(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"ask"}))
    for (const auto& [what, exists] : {std::pair{"supported", true}, {"supported_no_leaf", false}})
      for (const RecordLine* line : instance->all("answer", what)) {
        const std::string wrong = wrong_cpuid(*line, exists);
        verdicts.judge(
            *instance, !wrong.empty(),
            fmt::format("get_supported_cpuid, leaf {}, {}", exists ? "0" : "8fffffff", wrong));
      }
}

}  // namespace host_stub
