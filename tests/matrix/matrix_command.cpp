// SPDX-License-Identifier: MIT
//
// matrix: every host that is simulated, every guest CPUID, every way to ask for no vPMU,
// against what was expected of them.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <vmm/plugin.h>

#include <boost/program_options.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "matrix/matrix_command.hpp"

#include "host_kit/plugin_library.hpp"
#include "kvm/errno_names.hpp"
#include "matrix/matrix_run.hpp"

namespace host_stub {

namespace po = boost::program_options;

namespace {

using namespace matrix;

struct MatrixOptions {
  std::string plugin, filter;
  bool batch = false, json = false, help = false;
};

po::options_description describe(MatrixOptions& o) {
  po::options_description d("matrix: all simulated hosts x guests x options, judged");
  // clang-format off
  d.add_options()
    ("plugin", po::value(&o.plugin)->value_name("PATH"), "svm_pmu.so")
    ("filter", po::value(&o.filter)->value_name("TEXT"),
     "only the cases whose name holds TEXT, e.g. 'linux-6.12 enable_pmu=Y'")
    ("batch", po::bool_switch(&o.batch), "the host lends its KVM_SET_MSRS batch at each reset")
    ("json", po::bool_switch(&o.json), "one JSON object a line: the cases, then the counts")
    ("help", po::bool_switch(&o.help), "this text");
  // clang-format on
  return d;
}

/// A case that ran.
struct Row {
  Case tried;
  Expectation expected;
  Observation seen;
  std::vector<std::string> wrong;
};

struct Counts {
  uint32_t rows = 0, met = 0, impossible = 0, failed = 0;
};

/// Names of enumerators, indexed by them.
constexpr const char* kStartWords[] = {"runs", "refused", "busy"};
constexpr const char* kDecisionWords[] = {"nothing", "off_by_cap", "already_off", "filtered",
                                          "not_possible"};
constexpr const char* kBootWords[] = {"driver", "not available", "no driver"};
constexpr const char* kWarningWords[] = {"never", "may", "must"};

template <std::size_t N, typename Index>
const char* word(const char* const (&table)[N], Index index) {
  return table[static_cast<std::size_t>(index)];
}

std::string errno_text(int32_t result) {
  return result < 0 ? fmt::format("-{}", errno_name(-result)) : "0";
}

/// "CHECK_EXTENSION*2 SET_MSR_FILTER", without what all names begin with.
std::string ioctls_text(const IoctlCounts& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    std::string_view shortened = name;
    for (const std::string_view prefix : {"KVM_", "X86_"})
      if (shortened.starts_with(prefix)) shortened.remove_prefix(prefix.size());
    text += fmt::format("{}{}{}", text.empty() ? "" : " ", shortened,
                        count == 1 ? "" : fmt::format("*{}", count));
  }
  return text.empty() ? "-" : text;
}

// ---- for people --------------------------------------------------------------------------------

std::string boot_text(const std::vector<std::string>& console) {
  const auto says = [&](const char* text) {
    return std::any_of(console.begin(), console.end(), [&](const std::string& line) {
      return line.find(text) != std::string::npos;
    });
  };
  if (console.empty()) return "-";
  if (says("[Firmware Bug]")) return "FIRMWARE BUG";
  if (says("no PMU driver")) return "no driver";
  return says("PMU not available") ? "no PMU" : says("PMU driver.") ? "PMU" : "?";
}

std::string clean_text(const Observation& seen) {
  if (seen.after.empty()) return "-";
  std::size_t dirty = 0;
  for (const Registers& registers : seen.after) dirty += registers.dirty.size();
  if (dirty != 0) return fmt::format("{} dirty", dirty);
  std::string text = seen.before.front().dirty_counters == 0
                         ? "none live"
                         : fmt::format("{} clean", seen.before.front().dirty_counters);
  if (seen.after.front().global_ctl)
    text += fmt::format(" ctl={:x}", *seen.after.front().global_ctl);
  return text;
}

std::string log_text(const Observation& seen) {
  uint32_t warnings = 0;
  for (const LogLine& line : seen.log) warnings += line.level <= VMM_LOG_WARNING ? 1 : 0;
  const auto said = decision_said(seen);
  return fmt::format("{}{}", said ? word(kDecisionWords, *said) : "several",
                     warnings == 0 ? "" : fmt::format(" {}w", warnings));
}

constexpr const char* kRowFormat =
    "{:<48} {:<3} {:<11} {:<6} {:<10} {:<3}| {:<33} {:<10}| {:<9} {:<12} {:<14}| {:<15} {:<11}| "
    "{}\n";

void print_heading() {
  fmt::print(fmt::runtime(kRowFormat), "host", "pmu", "vendor", "CPUID", "off", "str",
             "ioctls in vm_created", "in a reset", "boot", "after reset", "registers",
             "log (w=warning)", "hook", "");
}

void print_row(const Row& row) {
  const Observation& seen = row.seen;
  const std::string model = row.tried.cpuid_model();
  const int32_t hook = seen.hook_result != 0 ? seen.hook_result : seen.start_result;
  fmt::print(fmt::runtime(kRowFormat), row.tried.host(), row.tried.enable_pmu ? "Y" : "N",
             row.tried.vendor_word(), model.substr(0, model.find(',')), row.tried.off_word(),
             row.tried.strict ? "yes" : "", ioctls_text(seen.vm_created),
             ioctls_text(seen.reset.front()), boot_text(seen.boot), boot_text(seen.boot_after),
             clean_text(seen), log_text(seen), errno_text(hook),
             row.wrong.empty() ? "met" : "FAIL");
  for (const std::string& line : row.wrong) fmt::print("    WRONG: {}\n", line);
}

/// Cases that cannot be: how many, and on which hosts.
struct Impossible {
  uint32_t rows = 0;
  std::set<std::string> hosts;
};
using ImpossibleByReason = std::map<std::string, Impossible>;

void print_end(const ImpossibleByReason& impossible, const Counts& counts) {
  for (const auto& [reason, cases] : impossible) {
    fmt::print("\nImpossible, not run: {} rows: {}\n", cases.rows, reason);
    for (const std::string& host : cases.hosts) fmt::print("    {}\n", host);
  }
  fmt::print("\n{} rows: {} met, {} impossible, {} failed\n", counts.rows, counts.met,
             counts.impossible, counts.failed);
}

// ---- for programs ------------------------------------------------------------------------------

using Json = nlohmann::ordered_json;

Json case_json(const Case& tried) {
  return {{"kvm", tried.kvm_spec()},
          {"host", tried.host()},
          {"enable_pmu", tried.enable_pmu},
          {"irqchip", tried.irqchip()},
          {"batch", tried.batch},
          {"vendor", tried.vendor_word()},
          {"cpuid", tried.cpuid_model()},
          {"plugin", tried.has_plugin()},
          {"options", tried.has_plugin() ? tried.options() : ""}};
}

Json expectation_json(const Expectation& e) {
  Json out{{"start", word(kStartWords, e.start)},
           {"decision", word(kDecisionWords, e.decision)},
           {"most_vm_created_ioctls", e.most_vm_created_ioctls},
           {"live_counters", e.live_counters},
           {"boot", word(kBootWords, e.boot)},
           {"firmware_bug", e.firmware_bug},
           {"set_msrs", {e.set_msrs.least, e.set_msrs.most}},
           {"refused_lines", {e.refused_lines.least, e.refused_lines.most}},
           {"warning", word(kWarningWords, e.warning)}};
  if (e.global_ctl) out["global_ctl"] = *e.global_ctl;
  return out;
}

Json observation_json(const Observation& seen) {
  Json out{{"start_result", seen.start_result}, {"start_error", seen.start_error},
           {"vm_created", seen.vm_created},     {"reset", seen.reset},
           {"hook_result", seen.hook_result},   {"boot", seen.boot},
           {"boot_after", seen.boot_after}};
  for (const LogLine& line : seen.log)
    out["log"].push_back({{"level", line.level}, {"text", line.text}});
  for (const Registers& registers : seen.after) {
    Json one{{"dirty", registers.dirty}, {"global_status", registers.global_status}};
    if (registers.global_ctl) one["global_ctl"] = *registers.global_ctl;
    out["after"].push_back(std::move(one));
  }
  return out;
}

void print_json(const Json& object) {
  fmt::print("{}\n", object.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void print_impossible_json(const Case& tried, const Expectation& expected) {
  Json object = case_json(tried);
  object["impossible"] = expected.impossible;
  print_json(object);
}

void print_row_json(const Row& row) {
  Json object = case_json(row.tried);
  object["expected"] = expectation_json(row.expected);
  object["seen"] = observation_json(row.seen);
  object["wrong"] = row.wrong;
  print_json(object);
}

// ---- the command -------------------------------------------------------------------------------

int run_matrix(const MatrixOptions& o) {
  // held open, so that each case's own dlopen and dlclose are cheap
  const auto library = host_kit::PluginLibrary::open(o.plugin);
  if (!library) {
    print_error(fmt::format("matrix: {}", library.error()));
    return kExitWrong;
  }
  Counts counts;
  ImpossibleByReason impossible;
  if (!o.json) print_heading();
  for (Case tried : all_cases()) {
    tried.batch = o.batch;
    if (tried.name().find(o.filter) == std::string::npos) continue;
    ++counts.rows;
    const Expectation expected = expectation_of(tried);
    if (expected.impossible != nullptr) {
      ++counts.impossible;
      Impossible& reason = impossible[expected.impossible];
      ++reason.rows;
      reason.hosts.insert(
          fmt::format("{}{}", tried.host(), tried.enable_pmu ? "" : " enable_pmu=N"));
      if (o.json) print_impossible_json(tried, expected);
      continue;
    }
    Row row{tried, expected, observe(tried, o.plugin), {}};
    row.wrong = differences(row.expected, row.tried, row.seen);
    ++(row.wrong.empty() ? counts.met : counts.failed);
    o.json ? print_row_json(row) : print_row(row);
  }
  if (!o.json) {
    print_end(impossible, counts);
  } else {
    print_json({{"rows", counts.rows},
                {"met", counts.met},
                {"impossible", counts.impossible},
                {"failed", counts.failed}});
  }
  if (counts.rows == 0) print_error(fmt::format("matrix: no case's name holds '{}'", o.filter));
  return counts.rows != 0 && counts.failed == 0 ? kExitGood : kExitWrong;
}

}  // namespace

int matrix_command(const Arguments& arguments) {
  MatrixOptions options;
  const po::options_description description = describe(options);
  if (!parse_arguments("matrix", arguments, description)) return kExitUsage;
  if (options.help) {
    fmt::print("{}\nExit status: 0 every case came out as expected; 1 one did not; 2 usage.\n",
               help_of(description));
    return kExitGood;
  }
  if (options.plugin.empty()) {
    print_error("matrix: --plugin PATH is needed");
    return kExitUsage;
  }
  return run_matrix(options);
}

}  // namespace host_stub
