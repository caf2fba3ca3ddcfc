// SPDX-License-Identifier: MIT
#include "tool/vm_status.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "tool/colour.hpp"
#include "tool/command.hpp"
#include "tool/words.hpp"
#include "vm_state.hpp"

namespace svm_pmu::tool {
namespace {

using host_preload::GuestPmu;

constexpr const char* kPlugin = "svm_pmu";

VmStatus status_of(const VmmProcess& process) {
  VmStatus vm;
  vm.pid = process.pid;
  vm.program = process.program;
  vm.name = process.command_line.vm_name;
  vm.told = process.command_line.guest_pmu;
  return vm;
}

void set(VmStatus& vm, Protection protection, const char* reason) {
  vm.protection = protection;
  vm.reason = reason;
}

/// A process whose VMs nobody has published.
VmStatus without_page(const VmmProcess& process) {
  VmStatus vm = status_of(process);
  if (process.library)
    set(vm, Protection::unknown,
        "libvmm_preload.so is loaded and has published nothing: it is an older version, or the VMM "
        "closed the descriptor");
  else if (process.plugin)
    set(vm, Protection::unknown, "the VMM loads svm_pmu.so itself and publishes nothing");
  else if (process.library_asked)
    set(vm, Protection::no,
        "libvmm_preload.so was asked for and is not loaded: can the VMM's user read it, do "
        "AppArmor and SELinux let it be mapped?");
  else
    set(vm, Protection::no, "libvmm_preload.so is not loaded");
  return vm;
}

VmStatus with_page(const VmmProcess& process, const PublishedVm& published) {
  VmStatus vm = status_of(process);
  vm.fd = published.fd;
  vm.resets = published.resets;
  vm.failed_resets = published.failed_resets;
  const auto& plugins = process.published->plugins;
  const auto found = std::ranges::find(plugins, kPlugin, &PublishedPlugin::name);
  const auto index = static_cast<std::size_t>(found - plugins.begin());
  if (found == plugins.end() || (published.plugins >> index & 1) == 0) {
    set(vm, Protection::no, "libvmm_preload.so is loaded, svm_pmu is not");
    return vm;
  }
  vm.plugin = fmt::format("{} {}", found->name, found->version);
  vm.options = found->options;
  vm.vpmu = published.states[index];
  const bool on = vm.vpmu == kStateReset || vm.vpmu == kStateUntouched;
  vm.believes_off = vm.told == GuestPmu::off && on;
  if (vm.vpmu.empty())
    set(vm, Protection::unknown, "the plugin does not say what it does");
  else if (vm.vpmu == kStateNotAmd)
    set(vm, Protection::not_needed, "this processor is neither AMD's nor Hygon's");
  else if (vm.vpmu == kStateUntouched)
    set(vm, Protection::no, "pmu-reset=off: its PMU is on and not reset");
  else if (vm.believes_off)
    set(vm, Protection::no, "its VMM was told that the guest has no PMU, and it has one");
  else if (vm.failed_resets != 0)
    set(vm, Protection::no, "resets of its PMU failed: see the VMM's log");
  else
    set(vm, Protection::yes, "");
  return vm;
}

void add_process(const VmmProcess& process, HostStatus& status) {
  if (!process.published) return status.vms.push_back(without_page(process));
  for (const PublishedVm& vm : process.published->vms) status.vms.push_back(with_page(process, vm));
  if (!process.published->vms.empty() && process.published->vms_without_room == 0) return;
  status.vms.push_back(status_of(process));
  set(status.vms.back(), Protection::unknown,
      "libvmm_preload.so has not published all of this process's VMs");
}

constexpr std::array kProtections{Protection::yes, Protection::no, Protection::unknown,
                                  Protection::not_needed};

long count(const HostStatus& status, Protection protection) {
  return std::ranges::count(status.vms, protection, &VmStatus::protection);
}

std::string unreadable_text(const HostStatus& status) {
  return fmt::format(
      "{} processes could not be read and may have VMs; only root sees those of other users.",
      status.unreadable);
}

constexpr const char* kHidden =
    "/proc does not list all processes (hidepid=) or is not mounted: there may be VMs that are not "
    "seen; root sees all.";

constexpr const char* kToldWords[] = {"unsaid", "off", "on"};  // by GuestPmu

}  // namespace

const char* protection_word(Protection protection) {
  constexpr const char* kWords[] = {"yes", "no", "unknown", "not-needed"};
  return kWords[static_cast<std::size_t>(protection)];
}

HostStatus judge(const Scan& scan, bool require_plugin) {
  HostStatus status{scan.host, {}, scan.unreadable, scan.hidden};
  for (const VmmProcess& process : scan.processes) add_process(process, status);
  if (scan.host.affected() || require_plugin) return status;
  for (VmStatus& vm : status.vms) {
    vm.believes_off = false;
    if (vm.protection != Protection::yes) set(vm, Protection::not_needed, "this host has no bug");
  }
  return status;
}

int exit_status(const HostStatus& status) {
  if (count(status, Protection::no) != 0) return kExitWrong;
  const bool all_known =
      count(status, Protection::unknown) == 0 && status.unreadable == 0 && !status.hidden;
  return all_known ? kExitGood : kExitUnknown;
}

// ---- for people --------------------------------------------------------------------------------

std::string text_of(const HostStatus& status, bool colour) {
  constexpr Colour kColours[] = {Colour::green, Colour::red, Colour::yellow, Colour::green};
  std::string out;
  if (!status.vms.empty())
    out += fmt::format("{:<9}{:<22}{:<22}{:<12}{:<13}{}\n", "PID", "PROGRAM", "VM", "PROTECTED",
                       "VPMU", "RESETS");
  for (const VmStatus& vm : status.vms) {
    const auto index = static_cast<std::size_t>(vm.protection);
    const std::string word = fmt::format("{:<12}", protection_word(vm.protection));
    out += fmt::format("{:<9}{:<22}{:<22}{}{:<13}{}\n", vm.pid, vm.program,
                       vm.name.empty() ? "-" : vm.name, painted(word, kColours[index], colour),
                       vm.vpmu.empty() ? "-" : vm.vpmu, vm.resets);
    if (!vm.plugin.empty())
      out += wrapped("         ", 9, vm.plugin + (vm.options.empty() ? "" : ", " + vm.options));
    if (!vm.reason.empty()) out += wrapped("         ", 9, vm.reason);
  }
  if (status.vms.empty()) out += "No process with KVM virtual machines was seen.\n";
  if (!status.host.affected())
    out += wrapped("", 0,
                   fmt::format("This host has neither bug ({}, kvm.enable_pmu {}).",
                               status.host.vendor, status.host.enable_pmu));
  if (status.unreadable != 0) out += wrapped("", 0, unreadable_text(status));
  if (status.hidden) out += wrapped("", 0, kHidden);
  return out;
}

// ---- for programs ------------------------------------------------------------------------------

std::string json_of(const HostStatus& status) {
  using Json = nlohmann::ordered_json;
  Json out{{"exit_status", exit_status(status)},
           {"vendor", status.host.vendor},
           {"enable_pmu", status.host.enable_pmu},
           {"affected", status.host.affected()},
           {"unreadable_processes", status.unreadable},
           {"hidden_processes", status.hidden},
           {"vms", Json::array()}};
  for (const VmStatus& vm : status.vms)
    out["vms"].push_back({{"pid", vm.pid},
                          {"program", vm.program},
                          {"name", vm.name},
                          {"fd", vm.fd},
                          {"protected", protection_word(vm.protection)},
                          {"vpmu", vm.vpmu},
                          {"plugin", vm.plugin},
                          {"options", vm.options},
                          {"resets", vm.resets},
                          {"failed_resets", vm.failed_resets},
                          {"told_pmu", kToldWords[static_cast<std::size_t>(vm.told)]},
                          {"believes_off", vm.believes_off},
                          {"reason", vm.reason}});
  return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

namespace {

/// A label's value in the text format: backslash, quote and newline are escaped.
std::string label(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
  return out;
}

std::string sample(const char* metric, const VmStatus& vm, uint64_t value) {
  return fmt::format("{}{{pid=\"{}\",program=\"{}\",vm=\"{}\",fd=\"{}\"}} {}\n", metric, vm.pid,
                     label(vm.program), label(vm.name), vm.fd, value);
}

std::string head(const char* metric, const char* type, const char* help) {
  return fmt::format("# HELP {} {}\n# TYPE {} {}\n", metric, help, metric, type);
}

}  // namespace

std::string prometheus_of(const HostStatus& status) {
  std::string out = head("svm_pmu_vms", "gauge", "Virtual machines by protection.");
  for (const Protection protection : kProtections)
    out += fmt::format("svm_pmu_vms{{protected=\"{}\"}} {}\n", protection_word(protection),
                       count(status, protection));
  out += head(
      "svm_pmu_vm_protected", "gauge",
      "1: protected, or this host has no bug; 0: not. VMs of which nothing is known are left out.");
  for (const VmStatus& vm : status.vms)
    if (vm.protection != Protection::unknown)
      out += sample("svm_pmu_vm_protected", vm, vm.protection == Protection::no ? 0 : 1);
  out += head("svm_pmu_vm_believes_off", "gauge",
              "1: the VMM was told that the guest has no PMU, and it has one.");
  for (const VmStatus& vm : status.vms)
    out += sample("svm_pmu_vm_believes_off", vm, vm.believes_off ? 1 : 0);
  out +=
      head("svm_pmu_vcpu_resets_total", "counter", "Resets of vCPUs that plugins were called for.");
  for (const VmStatus& vm : status.vms)
    if (vm.fd >= 0) out += sample("svm_pmu_vcpu_resets_total", vm, vm.resets);
  out += head("svm_pmu_vcpu_resets_failed_total", "counter", "Those of them that failed.");
  for (const VmStatus& vm : status.vms)
    if (vm.fd >= 0) out += sample("svm_pmu_vcpu_resets_failed_total", vm, vm.failed_resets);
  out += head("svm_pmu_processes_unreadable", "gauge", "Processes that could not be read.");
  out += fmt::format("svm_pmu_processes_unreadable {}\n", status.unreadable);
  out += head("svm_pmu_processes_hidden", "gauge", "1: /proc does not list all processes.");
  out += fmt::format("svm_pmu_processes_hidden {}\n", status.hidden ? 1 : 0);
  out += head("svm_pmu_status", "gauge", "Exit status of svm-pmu status: 0, 1 or 3.");
  out += fmt::format("svm_pmu_status {}\n", exit_status(status));
  return out;
}

}  // namespace svm_pmu::tool
