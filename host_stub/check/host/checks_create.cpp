// SPDX-License-Identifier: MIT
//
// What the process and the host's table are, and what becomes of create.
#include <fmt/ranges.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <set>

#include "check/host/checks.hpp"
#include "host_kit/abi_struct.hpp"

namespace host_stub {
namespace {

/// What create of this run returned must count as a failure: no hook and no destroy follows.
void judge_refused(const Instance& instance, Verdicts& verdicts) {
  const auto late = instance.all("late");
  const char* what = instance.run == "positive-create" ? "1" : "an error";
  verdicts.judge(instance, !late.empty(),
                 fmt::format("create returned {}, and {} was called", what,
                             late.empty() ? "" : text(*late.front(), "hook")));
}

/// An answer that must have this value.
void judge_answer(const Instance& instance, Verdicts& verdicts, const char* what, int64_t wanted,
                  const char* words) {
  for (const RecordLine* line : instance.all("answer", what))
    verdicts.judge(instance, number(*line, "result") != wanted,
                   fmt::format("{} returned {}, not {}", words, number(*line, "result"), wanted));
}

}  // namespace

void check_scope(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances)
    verdicts.judge(instance, truth(instance.create(), "global"),
                   "the plugin is in the process's global scope, as RTLD_GLOBAL puts it");
}

void check_marker(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances) {
    const RecordLine& create = instance.create();
    if (truth(create, "marker"))
      verdicts.pass();
    else if (truth(create, "host_is_program"))
      verdicts.fail(instance,
                    "the program has the host in it and exports no " VMM_PLUGIN_HOST_MARKER_NAME);
    else
      verdicts.not_applicable(
          fmt::format("the host is in {}, not in the program", text(create, "host_file")));
  }
}

void check_table(const Instances& instances, Verdicts& verdicts) {
  constexpr int64_t kLeast = host_kit::kHostSizeV1_0;
  for (const Instance& instance : instances) {
    const RecordLine& create = instance.create();
    std::string wrong;
    if (number(create, "size") < kLeast)
      wrong = fmt::format("the table has {} bytes, up to log it has {}", number(create, "size"),
                          kLeast);
    else if (number(create, "abi_major") != VMM_PLUGIN_ABI_MAJOR)
      wrong = fmt::format("abi_major is {}", number(create, "abi_major"));
    else if (!create.contains("name") || create["name"].is_null())
      wrong = "name is NULL";
    for (const char* callback : {"register_hooks", "vm_ioctl", "vcpu_ioctl", "log"})
      if (wrong.empty() && !truth(create, callback)) wrong = fmt::format("{} is NULL", callback);
    verdicts.judge(instance, !wrong.empty(), wrong);
  }
}

void check_register_hooks(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances)
    for (const RecordLine* line : instance.all("stale"))
      verdicts.fail(instance, fmt::format("{} was called as the plugin's table had it after "
                                          "register_hooks: the table was not copied",
                                          text(*line, "hook")));
  for (const Instance* instance : of_runs(instances, {"register"})) {
    judge_answer(*instance, verdicts, "register_null", -EINVAL, "register_hooks(NULL)");
    judge_answer(*instance, verdicts, "register_small", -EINVAL,
                 "register_hooks of a table that ends before vcpu_reset");
    judge_answer(*instance, verdicts, "register_again", -EALREADY, "the second register_hooks");
  }
}

void check_never_register(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"never-register"}))
    verdicts.judge(*instance, instance->destroy() == nullptr,
                   "create returned 0 without registering, and destroy was not called");
}

void check_failed_create(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"fail-create"}))
    judge_refused(*instance, verdicts);
}

void check_kept(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances)
    for (const RecordLine& line : instance.lines) {
      if (!line.contains("options_same")) continue;
      const std::string where = line.contains("hook") ? text(line, "hook") : "destroy";
      if (!truth(line, "options_same"))
        verdicts.fail(instance, fmt::format("in {} the options are not those of create", where));
      else
        verdicts.judge(instance, !truth(line, "table_same"),
                       fmt::format("in {} the host's table is not as it was in create", where));
    }
}

void check_destroy(const Instances& instances, Verdicts& verdicts) {
  std::set<std::string> ended_without;
  bool any = false;
  for (const Instance& instance : instances) {
    if (!instance.created()) continue;
    for (const RecordLine* line : instance.all("late"))
      verdicts.fail(instance, fmt::format("{} was called after destroy", text(*line, "hook")));
    const std::size_t end = instance.destroyed_at();
    if (end == HookCall::kNever) {
      ended_without.insert(instance.run);
      continue;
    }
    std::string wrong;
    for (const HookCall& call : instance.calls) {
      if (call.end > end) wrong = fmt::format("destroy came while {} ran", call.hook);
      if (call.hook != "vm_created" || call.result != 0) continue;
      const bool ended = std::ranges::any_of(instance.calls, [&](const HookCall& other) {
        return other.hook == "vm_destroyed" && other.vm == call.vm && other.at > call.at;
      });
      if (!ended) wrong = fmt::format("destroy came before vm_destroyed of VM {}", call.vm);
    }
    any = true;
    verdicts.judge(instance, !wrong.empty(), wrong);
  }
  // a process may end without it, and a record does not tell that from a host that forgot it
  if (any && !ended_without.empty())
    verdicts.pass(fmt::format("no destroy came in run {}", fmt::join(ended_without, ", ")));
}

void check_positive_results(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"positive-create"}))
    judge_refused(*instance, verdicts);
  for (const Instance* instance : of_runs(instances, {"positive-vm-created"})) {
    bool refused = false;
    std::string wrong;
    for (const HookCall& call : instance->calls)
      if (call.hook == "vm_created")
        refused = true;
      else if (refused)
        wrong = fmt::format("vm_created returned 1, and {} was called", call.hook);
    if (refused) verdicts.judge(*instance, !wrong.empty(), wrong);
  }
}

void check_error_buffers(const Instances& instances, Verdicts& verdicts) {
  for (const Instance& instance : instances)
    for (const RecordLine& line : instance.lines) {
      if (!line.contains("error")) continue;
      const std::string where = line.contains("hook") ? text(line, "hook") : "create";
      std::string wrong;
      if (truth(line, "error")) {
        if (number(line, "error_size") < static_cast<int64_t>(sizeof(vmm_error)))
          wrong = fmt::format("struct_size {} is too small", number(line, "error_size"));
        else if (number(line, "error_capacity") < 1)
          wrong = "capacity is 0";
        else if (!truth(line, "error_empty"))
          wrong = "message[0] is not 0";
      }
      verdicts.judge(instance, !wrong.empty(), fmt::format("vmm_error of {}: {}", where, wrong));
    }
}

void check_sizes(const Instances& instances, Verdicts& verdicts) {
  struct Field {
    const char* key;
    const char* hook;
    const char* name;
    std::size_t size;  ///< in ABI 1.0; 0: a field that must be 0
  };
  constexpr Field kFields[] = {
      {"size", "vm_created", "vmm_vm.struct_size", sizeof(vmm_vm)},
      {"size", "msr_list_build", "vmm_vm.struct_size", sizeof(vmm_vm)},
      {"size", "vcpu_reset", "vmm_vcpu.struct_size", sizeof(vmm_vcpu)},
      {"flags", "vcpu_reset", "vmm_vcpu.flags", 0},
      {"reserved", "vcpu_reset", "vmm_vcpu.reserved", 0},
      {"sink_size", "", "vmm_msr_sink.struct_size", sizeof(vmm_msr_sink)},
      {"sink_reserved", "", "vmm_msr_sink.reserved", 0},
      {"reserved", "create", "vmm_host.reserved", 0},
  };
  for (const Instance& instance : instances) {
    const bool first_minor = number(instance.create(), "abi_minor") == 0;
    for (const RecordLine& line : instance.lines) {
      const std::string place =
          text(line, "event") == "enter" ? text(line, "hook") : text(line, "event");
      for (const Field& field : kFields) {
        if ((field.hook[0] != '\0' && place != field.hook) || !line.contains(field.key)) continue;
        const auto value = number(line, field.key);
        const auto size = static_cast<int64_t>(field.size);
        const bool wrong = value < size || (value > size && (size == 0 || first_minor));
        verdicts.judge(instance, wrong, fmt::format("{} is {}, not {}", field.name, value, size));
      }
    }
  }
}

void check_larger_table(const Instances& instances, Verdicts& verdicts) {
  for (const Instance* instance : of_runs(instances, {"register"}))
    judge_answer(*instance, verdicts, "register_larger", 0,
                 "register_hooks of a table with a member more");
}

}  // namespace host_stub
