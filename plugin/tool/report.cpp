// SPDX-License-Identifier: MIT
#include "tool/report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "host_kit/host.hpp"
#include "host_kit/plugin_list.hpp"
#include "tool/file.hpp"
#include "tool/words.hpp"

namespace svm_pmu::tool {
namespace {

/// Names of enumerators, indexed by them.
constexpr const char* kStateWords[] = {"live", "off", "busy", "not created"};
const char* word_of(CounterState state) { return kStateWords[static_cast<std::size_t>(state)]; }

/// Where a plugin's name is looked for: beside this program, in the build tree, in its prefix, in
/// the one that it was configured for.
std::vector<std::string> plugin_folders() {
  const std::string program = read_link("/proc/self/exe").value_or("");
  const std::string here = program.substr(0, program.find_last_of('/'));
  return {here, here + "/..", here + "/../plugin", here + "/../" SVM_PMU_PLUGIN_DIR,
          SVM_PMU_FULL_PLUGIN_DIR};
}

tl::expected<host_kit::PluginLibrary, std::string> open_plugin(const std::string& name) {
  const auto path = host_kit::find_plugin(name, plugin_folders());
  if (!path) return tl::unexpected(path.error());
  return host_kit::PluginLibrary::open(*path);
}

// ---- for people --------------------------------------------------------------------------------

std::string state_text(const CounterAnswer& answer) {
  const std::string text = word_of(answer.state);
  return answer.result < 0 ? fmt::format("{} ({})", text, errno_name(answer.result)) : text;
}

std::string capability_text(int32_t value) {
  return value < 0 ? "-" + errno_name(value) : std::to_string(value);
}

const char* yes_no(bool yes) { return yes ? "yes" : "no"; }

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

std::string host_text(const Probe& p) {
  std::string out = "What KVM says\n";
  const auto line = [&](const char* what, const std::string& value) {
    out += fmt::format("  {:<34}{}\n", what, value);
  };
  line("KVM", fmt::format("{}, Linux {}", p.kvm, p.host.kernel));
  line("CPU vendor", p.vendor);
  line("kvm.enable_pmu", p.host.enable_pmu == "?" ? "no such parameter" : p.host.enable_pmu);
  line("KVM_CAP_PMU_CAPABILITY", capability_text(p.pmu_capability));
  line("KVM_CAP_DISABLE_QUIRKS2", capability_text(p.disable_quirks2));
  line("KVM_CAP_X86_MSR_FILTER", capability_text(p.msr_filter));
  line("AMD PMU registers in its MSR list", msrs_text(p.pmu_msrs));
  line("PerfCtrExtCore for guests", yes_no(p.perfctr_core));
  line("PerfMonV2 for guests", p.perfmonv2 ? fmt::format("yes, {} counters", p.counters) : "no");
  out += "What a vCPU's counter does\n";
  line("in a VM", state_text(p.with_irqchip));
  line("in one without in-kernel irqchip", state_text(p.without_irqchip));
  if (p.offers_cap()) line("after KVM_PMU_CAP_DISABLE", state_text(p.after_cap));
  return out;
}

/// What became of the VM's vCPU after the plugin's hooks.
std::string outcome_of(const Trial& t) {
  if (t.result < 0) return fmt::format("no VM ({}): {}", errno_name(t.result), t.error);
  std::string text =
      fmt::format("afterwards the host finds the vCPU's counters {}", state_text(t.counter));
  if (t.reset_result < 0)
    text += fmt::format("; vcpu_reset failed ({})", errno_name(t.reset_result));
  else if (t.cleared)
    text += *t.cleared ? "; vcpu_reset cleared one that held 1"
                       : "; vcpu_reset left one that held 1 as it was";
  return text;
}

std::string trial_text(const Trial& t) {
  const bool follows = t.options.find("pmu-cap-disabled=auto") != std::string::npos;
  std::string out =
      fmt::format("  {}{}\n", t.options, follows ? " (a VM whose VMM was told pmu=off)" : "");
  for (const PluginLine& line : t.lines)
    out += wrapped(fmt::format("      {}: ", host_kit::log_level_name(line.level)), 8, line.text);
  return out + wrapped("      ", 8, outcome_of(t));
}

}  // namespace

tl::expected<ProbeReport, std::string> make_report(Kvm& kvm, const ProbeOptions& options) {
  auto probe = probe_kvm(kvm);
  if (!probe) return tl::unexpected(probe.error());
  ProbeReport report;
  report.probe = std::move(*probe);
  if (kvm.of_this_machine() && report.probe.with_irqchip.state == CounterState::live)
    report.perf = ask_perf_counters(report.probe.guest_counters());
  const auto plugin = open_plugin(options.plugin.empty() ? "svm_pmu.so" : options.plugin);
  if (!plugin) {
    report.plugin_error = plugin.error();
    return report;
  }
  report.plugin = fmt::format("{} {}", plugin->path(), plugin->descriptor().version);
  std::vector<std::string> settings = options.settings;
  if (settings.empty()) settings.assign(kSettings.begin(), kSettings.end());
  for (const std::string& setting : settings)
    report.trials.push_back(try_plugin(kvm, *plugin, setting));
  return report;
}

std::string text_of(const ProbeReport& report) {
  std::string out = host_text(report.probe);
  out += "\nWhat this means\n";
  for (const std::string& sentence : verdict_of(report.probe)) out += wrapped("  ", 2, sentence);
  if (report.perf.asked != 0) out += wrapped("  ", 2, describe(report.perf));
  out += "\nWhat the plugin does here\n";
  if (report.plugin_error.empty())
    out += fmt::format("  {}\n", report.plugin);
  else
    out += wrapped("  not tried: ", 4, report.plugin_error);
  for (const Trial& trial : report.trials) out += trial_text(trial);
  out += "\nWhat cannot be fixed from user space\n";
  for (const char* limit : kLimits) out += wrapped("  - ", 4, limit);
  return out;
}

// ---- for programs ------------------------------------------------------------------------------

namespace {

using Json = nlohmann::ordered_json;

Json json_of(const Trial& t) {
  Json out{{"options", t.options}, {"result", t.result}, {"lines", Json::array()}};
  for (const PluginLine& line : t.lines)
    out["lines"].push_back({{"level", host_kit::log_level_name(line.level)}, {"text", line.text}});
  if (t.result < 0) {
    out["error"] = t.error;
    return out;
  }
  out["vpmu"] = word_of(t.counter.state);
  out["reset_result"] = t.reset_result;
  if (t.cleared) out["reset_cleared"] = *t.cleared;
  return out;
}

Json json_of(const PerfCounters& c) {
  Json out{{"asked", c.asked}};
  c.result < 0 ? out["error"] = errno_name(c.result) : out["free"] = c.free;
  out["nmi_watchdog"] = c.nmi_watchdog;
  out["perf_event_paranoid"] = c.paranoid;
  return out;
}

}  // namespace

std::string json_of(const ProbeReport& report) {
  const Probe& p = report.probe;
  Json out{
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
      {"vpmu", word_of(p.with_irqchip.state)},
      {"vpmu_without_irqchip", word_of(p.without_irqchip.state)},
      {"has_bugs", p.has_bugs()},
      {"verdict", verdict_of(p)},
      {"limits", kLimits},
  };
  out["pmu_msrs"] = Json::array();
  for (const uint32_t msr : p.pmu_msrs) out["pmu_msrs"].push_back(fmt::format("{:08x}", msr));
  if (p.offers_cap()) out["vpmu_after_cap"] = word_of(p.after_cap.state);
  if (report.perf.asked != 0) out["host_counters"] = json_of(report.perf);
  report.plugin_error.empty() ? out["plugin_file"] = report.plugin
                              : out["plugin_error"] = report.plugin_error;
  out["plugin"] = Json::array();
  for (const Trial& trial : report.trials) out["plugin"].push_back(json_of(trial));
  return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

tl::expected<void, std::string> print_probe(Kvm& kvm, const ProbeOptions& options) {
  const auto report = make_report(kvm, options);
  if (!report) return tl::unexpected(report.error());
  fmt::print("{}", options.json ? json_of(*report) : text_of(*report));
  if (!options.plugin.empty() && !report->plugin_error.empty())
    return tl::unexpected(report->plugin_error);
  for (const Trial& trial : report->trials)
    if (!options.settings.empty() && trial.result < 0)
      return tl::unexpected(fmt::format("'{}': {}", trial.options, trial.error));
  return {};
}

}  // namespace svm_pmu::tool
