// SPDX-License-Identifier: MIT
#include "tool/vmm_process.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "host_preload/status_page.hpp"
#include "tool/file.hpp"

namespace svm_pmu::tool {
namespace {

namespace fs = std::filesystem;
namespace page = host_preload;

/// Text of another process, for a terminal: no control characters.
std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  return text;
}

template <std::size_t Size>
std::string text_of(const char (&from)[Size]) {
  return printable(std::string(from, strnlen(from, Size)));
}

// ---- the page ----------------------------------------------------------------------------------

/// Where the parts are in a page; false: they are not those of version 1, or do not fit.
bool has_our_layout(const page::StatusHeader& h, std::size_t size) {
  return std::memcmp(h.magic, page::kStatusMagic, sizeof h.magic) == 0 &&
         h.version == page::kStatusVersion && h.header_size == sizeof(page::StatusHeader) &&
         h.plugin_size == sizeof(page::StatusPlugin) && h.plugin_count == page::kStatusPlugins &&
         h.vm_size == sizeof(page::StatusVm) && h.vm_count == page::kStatusVms &&
         size >= page::kStatusSize;
}

template <typename T>
void copy_at(T& to, const std::string& bytes, std::size_t offset) {
  std::memcpy(static_cast<void*>(&to), bytes.data() + offset, sizeof to);
}

PublishedVm vm_of(const page::StatusVm& vm, std::size_t plugins) {
  PublishedVm out;
  out.fd = vm.fd.load();
  out.plugins = vm.plugins;
  out.resets = vm.resets.load();
  out.failed_resets = vm.failed_resets.load();
  for (std::size_t i = 0; i < plugins; ++i) out.states.push_back(text_of(vm.states[i]));
  return out;
}

// ---- a process ---------------------------------------------------------------------------------

/// Arguments or variables: each ends in a NUL.
std::vector<std::string> words_of(const std::string& content) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < content.size();) {
    const std::size_t end = std::min(content.find('\0', at), content.size());
    words.push_back(content.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

/// The pid that the process sees itself; its own namespace's is the last one of NSpid.
uint32_t own_pid(const std::string& folder, int32_t pid) {
  const std::string status = read_file(folder + "/status").value_or("");
  const std::size_t at = status.find("\nNSpid:");
  if (at == std::string::npos) return static_cast<uint32_t>(pid);
  const std::string line = status.substr(at + 7, status.find('\n', at + 1) - at - 7);
  uint32_t last = static_cast<uint32_t>(pid);
  const std::size_t digits = line.find_last_of(" \t");
  const char* begin = line.data() + (digits == std::string::npos ? 0 : digits + 1);
  std::from_chars(begin, line.data() + line.size(), last);
  return last;
}

bool is_kernel_thread(const std::string& folder) {
  const std::string stat = read_file(folder + "/stat").value_or("");
  constexpr uint64_t kKernelThread = 0x00200000;  // PF_KTHREAD, field 9 (proc(5))
  std::size_t at = stat.rfind(')');
  for (int field = 2; field < 9 && at != std::string::npos; ++field) at = stat.find(' ', at + 1);
  if (at == std::string::npos) return false;
  uint64_t flags = 0;
  std::from_chars(stat.data() + at + 1, stat.data() + stat.size(), flags);
  return (flags & kKernelThread) != 0;
}

/// A page that did not change between two readings: no entry is torn. After some tries the last
/// one.
std::string settled_page(const std::string& path) {
  constexpr int kTries = 8;
  std::string before, now = read_file(path).value_or("");
  for (int i = 0; i < kTries && now != before; ++i) {
    before = std::move(now);
    now = read_file(path).value_or("");
  }
  return now;
}

/// What the descriptors of a process lead to. False: this user may not see them.
bool read_descriptors(const std::string& folder, VmmProcess& process) {
  std::error_code error;
  fs::directory_iterator files(folder + "/fd", error);
  if (error) return error.value() == ENOENT;  // ended meanwhile: it has none
  const uint32_t self = own_pid(folder, process.pid);
  for (; files != fs::directory_iterator(); files.increment(error)) {
    if (error) break;
    const auto link = read_link(files->path());
    if (!link) {
      if (link.error() == EACCES || link.error() == EPERM) return false;
      continue;
    }
    if (*link == "anon_inode:kvm-vm") ++process.vm_descriptors;
    // "/memfd:NAME (deleted)"
    const std::size_t name = link->find(std::string("memfd:") + page::kStatusName);
    if (name > 1) continue;
    auto published = read_page(settled_page(files->path()));
    if (published && published->pid == self) process.published = std::move(published);
  }
  return true;
}

std::string program_of(const std::string& folder) {
  std::string file = read_link(folder + "/exe").value_or("");
  if (file.empty()) file = first_word(folder + "/comm", "?");
  if (const std::size_t deleted = file.rfind(" (deleted)"); deleted != std::string::npos)
    file.resize(deleted);
  return printable(file.substr(file.find_last_of('/') + 1));
}

void read_details(const std::string& folder, VmmProcess& process) {
  process.program = program_of(folder);
  const auto arguments = words_of(read_file(folder + "/cmdline").value_or(""));
  process.command_line = host_preload::read_command_line(arguments);
  process.command_line.vm_name = printable(process.command_line.vm_name);
  const std::string maps = read_file(folder + "/maps").value_or("");
  process.library = maps.find("/libvmm_preload.so") != std::string::npos;
  process.plugin = maps.find("/svm_pmu.so") != std::string::npos;
  for (const std::string& variable : words_of(read_file(folder + "/environ").value_or("")))
    if (variable.starts_with("VMM_PLUGINS=") ||
        (variable.starts_with("LD_PRELOAD=") &&
         variable.find("libvmm_preload.so") != std::string::npos))
      process.library_asked = true;
}

HostFacts host_facts(const std::string& root) {
  HostFacts facts;
  facts.enable_pmu = first_word(root + "/sys/module/kvm/parameters/enable_pmu", "?");
  const std::string cpus = read_file(root + "/proc/cpuinfo").value_or("");
  if (const std::size_t at = cpus.find("vendor_id"); at != std::string::npos) {
    const std::size_t begin = cpus.find_first_not_of(" \t:", at + 9);
    if (begin != std::string::npos)
      facts.vendor = cpus.substr(begin, cpus.find('\n', begin) - begin);
  }
  return facts;
}

/// Looks at one process, and keeps it if it has a VM.
void scan_process(const std::string& folder, int32_t pid, Scan& scan) {
  VmmProcess process;
  process.pid = pid;
  if (!read_descriptors(folder, process)) {
    scan.unreadable += is_kernel_thread(folder) ? 0 : 1;
    return;
  }
  if (process.vm_descriptors == 0) return;
  read_details(folder, process);
  scan.processes.push_back(std::move(process));
}

}  // namespace

std::optional<Published> read_page(const std::string& bytes) {
  if (bytes.size() < page::kStatusSize) return std::nullopt;
  page::StatusHeader header;
  copy_at(header, bytes, 0);
  if (!has_our_layout(header, bytes.size())) return std::nullopt;
  Published out;
  out.pid = header.pid;
  out.host = text_of(header.host);
  out.vms_without_room = header.vms_without_room.load();
  const std::size_t plugins = std::min(header.plugins, page::kStatusPlugins);
  for (std::size_t i = 0; i < plugins; ++i) {
    page::StatusPlugin plugin;
    copy_at(plugin, bytes, sizeof header + i * sizeof plugin);
    out.plugins.push_back({text_of(plugin.name), text_of(plugin.version), text_of(plugin.options)});
  }
  const std::size_t first_vm = sizeof header + page::kStatusPlugins * sizeof(page::StatusPlugin);
  for (std::size_t i = 0; i < page::kStatusVms; ++i) {
    page::StatusVm vm;
    copy_at(vm, bytes, first_vm + i * sizeof vm);
    if (vm.fd.load() >= 0) out.vms.push_back(vm_of(vm, plugins));
  }
  return out;
}

bool HostFacts::affected() const {
  const bool amd = vendor.empty() || vendor == "AuthenticAMD" || vendor == "HygonGenuine";
  return amd && enable_pmu != "N";
}

Scan scan_host(const std::string& root, int32_t only_pid) {
  Scan scan;
  scan.host = host_facts(root);
  if (only_pid != 0) {
    scan_process(fmt::format("{}/proc/{}", root, only_pid), only_pid, scan);
    return scan;
  }
  std::error_code error;
  // process 1 is there for whoever may see all; with hidepid=2 (proc(5)) others' are not even
  // listed
  scan.hidden = !fs::exists(root + "/proc/1", error);
  for (fs::directory_iterator entries(root + "/proc", error);
       !error && entries != fs::directory_iterator(); entries.increment(error)) {
    int32_t pid = 0;
    const std::string name = entries->path().filename();
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (bad != std::errc{} || end != name.data() + name.size()) continue;
    scan_process(entries->path(), pid, scan);
  }
  std::ranges::sort(scan.processes, {}, &VmmProcess::pid);
  return scan;
}

}  // namespace svm_pmu::tool
