// SPDX-License-Identifier: MIT
//
// host_stub probe: what this host's KVM has, which bugs, and what the plugin would do here.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/program_options.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/probe.hpp"
#include "kvm/errno_names.hpp"
#include "sim/backend.hpp"

namespace host_stub {

namespace po = boost::program_options;

namespace {

/// Names of enumerators, indexed by them.
constexpr const char* kVpmuWords[] = {"live", "off", "busy", "not created"};
constexpr const char* kOutcomeWords[] = {"not_asked", "off_by_cap", "already_off", "filtered",
                                         "not_possible"};

std::string vpmu_text(const VpmuAnswer& answer) {
  const std::string text = kVpmuWords[static_cast<std::size_t>(answer.vpmu)];
  return answer.result < 0 ? fmt::format("{} ({})", text, errno_name(-answer.result)) : text;
}

std::string capability_text(int32_t value) {
  return value < 0 ? fmt::format("-{}", errno_name(-value)) : std::to_string(value);
}

const char* yes_no(bool yes) { return yes ? "yes" : "no"; }

// ---- for people --------------------------------------------------------------------------------

/// Text in lines of at most 96 columns, each behind `indent` blanks, the first behind `head`.
void print_wrapped(std::string_view head, std::size_t indent, std::string_view text) {
  constexpr std::size_t kColumns = 96;
  std::string line(head);
  line.resize(std::max(indent, line.size()), ' ');
  std::size_t column = line.size();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (column + end - at > kColumns) {
      line += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (at != 0) {
      line += ' ';
      ++column;
    }
    line += text.substr(at, end - at);
    column += end - at;
    at = end + 1;
  }
  fmt::print("{}\n", line);
}

/// "c0010000-c0010007 c0010200": neighbours as a range.
std::string msrs_text(const std::vector<uint32_t>& msrs) {
  if (msrs.empty()) return "none";
  std::string text;
  for (std::size_t i = 0; i < msrs.size();) {
    std::size_t last = i;
    while (last + 1 < msrs.size() && msrs[last + 1] == msrs[last] + 1) ++last;
    text += fmt::format("{}{:08x}", text.empty() ? "" : " ", msrs[i]);
    if (last != i) text += fmt::format("-{:08x}", msrs[last]);
    i = last + 1;
  }
  return text;
}

void print_host(const Probe& p) {
  const auto line = [](const char* what, const std::string& value) {
    fmt::print("  {:<34}{}\n", what, value);
  };
  fmt::print("What KVM says\n");
  line("KVM", fmt::format("{}, Linux {}", p.kvm, p.host.kernel));
  line("CPU vendor", p.vendor);
  line("kvm.enable_pmu", p.host.enable_pmu == "?" ? "no such parameter" : p.host.enable_pmu);
  line("KVM_CAP_PMU_CAPABILITY", capability_text(p.pmu_capability));
  line("KVM_CAP_DISABLE_QUIRKS2", capability_text(p.disable_quirks2));
  line("KVM_CAP_X86_MSR_FILTER", capability_text(p.msr_filter));
  line("AMD PMU registers in its MSR list", msrs_text(p.pmu_msrs));
  line("PerfCtrExtCore for guests", yes_no(p.perfctr_core));
  line("PerfMonV2 for guests", p.perfmonv2 ? fmt::format("yes, {} counters", p.counters) : "no");
  fmt::print("What a vCPU's counter does\n");
  line("in a VM", vpmu_text(p.with_irqchip));
  line("in one without in-kernel irqchip", vpmu_text(p.without_irqchip));
  if (p.offers_cap()) line("after KVM_PMU_CAP_DISABLE", vpmu_text(p.after_cap));
}

void print_text(const Probe& p) {
  print_host(p);
  fmt::print("\nWhat this means\n");
  for (const std::string& sentence : verdict_of(p)) print_wrapped("  ", 2, sentence);
  fmt::print("\nWhat svm_pmu.so would do here\n");
  for (const PluginSetting& setting : kPluginSettings) {
    fmt::print("  {}\n", setting.options);
    print_wrapped("      ", 6, plan_of(p, setting));
  }
  fmt::print("\nWhat cannot be fixed from userspace\n");
  for (const char* limit : kLimits) print_wrapped("  - ", 4, limit);
}

// ---- for programs ------------------------------------------------------------------------------

void print_json(const Probe& p) {
  nlohmann::ordered_json out{
      {"kvm", p.kvm},
      {"kernel", p.host.kernel},
      {"vendor", p.vendor},
      {"enable_pmu", p.host.enable_pmu},
      {"pmu_capability", p.pmu_capability},
      {"disable_quirks2", p.disable_quirks2},
      {"msr_filter", p.msr_filter},
      {"perfctr_core", p.perfctr_core},
      {"perfmonv2", p.perfmonv2},
      {"counters", p.counters},
      {"vpmu", kVpmuWords[static_cast<std::size_t>(p.with_irqchip.vpmu)]},
      {"vpmu_without_irqchip", kVpmuWords[static_cast<std::size_t>(p.without_irqchip.vpmu)]},
      {"has_bugs", p.has_bugs()},
      {"verdict", verdict_of(p)},
      {"limits", kLimits},
  };
  out["pmu_msrs"] = nlohmann::ordered_json::array();
  for (const uint32_t msr : p.pmu_msrs) out["pmu_msrs"].push_back(fmt::format("{:08x}", msr));
  if (p.offers_cap())
    out["vpmu_after_cap"] = kVpmuWords[static_cast<std::size_t>(p.after_cap.vpmu)];
  for (const PluginSetting& setting : kPluginSettings)
    out["plugin"].push_back(
        {{"options", setting.options},
         {"outcome", kOutcomeWords[static_cast<std::size_t>(p.outcome(setting))]},
         {"text", plan_of(p, setting)}});
  fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

}  // namespace

int probe_command(const Arguments& arguments) {
  std::string spec;
  bool json = false, help = false;
  po::options_description d("host_stub probe: what a host's KVM has, and what the plugin would do");
  // clang-format off
  d.add_options()
    ("kvm", po::value(&spec)->default_value("/dev/kvm")->value_name("SPEC"),
     "/dev/kvm, or sim[:KERNEL][,SWITCH]...")
    ("json", po::bool_switch(&json), "one JSON object")
    ("help", po::bool_switch(&help), "this text");
  // clang-format on
  if (!parse_arguments("probe", arguments, d)) return kExitUsage;
  if (help) {
    fmt::print(
        "{}\nVMs are made and closed; they run nothing. Where the vPMU is off KVM may log one "
        "line,\n"
        "\"Unhandled WRMSR(0xc0010004)\" (kvm.report_ignored_msrs).\n\n"
        "Exit status: 0 KVM was asked; 1 it could not be; 2 usage.\n",
        help_of(d));
    return kExitGood;
  }
  const auto kvm = open_kvm(spec);
  const auto probe =
      kvm ? probe_kvm(**kvm) : tl::expected<Probe, std::string>(tl::unexpected(kvm.error()));
  if (!probe) {
    print_error(fmt::format("probe: {}", probe.error()));
    return kExitWrong;
  }
  json ? print_json(*probe) : print_text(*probe);
  return kExitGood;
}

}  // namespace host_stub
