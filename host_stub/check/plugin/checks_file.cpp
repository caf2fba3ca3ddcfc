// SPDX-License-Identifier: MIT
//
// The plugin's file, its entry and its descriptor: VMM-1, 2, 3, 6, 26.
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "check/plugin/checks.hpp"
#include "check/plugin/import_traps.hpp"
#include "check/plugin/plugin_file.hpp"
#include "check/plugin/sandbox.hpp"
#include "host_kit/abi_struct.hpp"

namespace host_stub::validate {
namespace {

/// Reads the file; what keeps it from that makes the rule fail.
std::optional<PluginFile> read_file(Findings& findings, const Subject& subject, unsigned rule) {
  auto file = PluginFile::read(subject.plugin);
  if (file) return std::move(*file);
  findings.fail(rule, "the file {}", file.error());
  return std::nullopt;
}

void exports_the_entry_alone(Findings& findings, const Subject& subject) {
  const auto file = read_file(findings, subject, 1);
  if (!file) return;
  if (file->is_sanitized())
    return findings.not_applicable(1, "built with a sanitizer, which brings exports of its own");
  bool has_entry = false;
  for (const PluginFile::Symbol& symbol : file->exports) {
    if (symbol.name != VMM_PLUGIN_ENTRY_NAME)
      findings.fail(1, "exports {}", symbol.name);
    else if (!symbol.is_function)
      findings.fail(1, "{} is no function", symbol.name);
    else
      has_entry = true;
  }
  if (!has_entry) findings.fail(1, "does not export " VMM_PLUGIN_ENTRY_NAME);
}

void file_is_fit(Findings& findings, const Subject& subject) {
  const auto file = read_file(findings, subject, 6);
  if (!file) return;
  for (const std::string& what : file->unfit) findings.fail(6, "has {}", what);
  LoadedPlugin plugin(findings, subject.plugin);
  if (!plugin.load() && plugin.entry() == nullptr) return findings.fail(6, "{}", plugin.why());
  findings.pass(6, "needs {}", fmt::join(file->needed, " "));
}

void entry_is_pure(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 2);
  scene.plugin.load();
  const vmm_plugin_entry entry = scene.plugin.entry();
  if (entry == nullptr) return findings.not_applicable(2, "{}", scene.plugin.why());
  const vmm_plugin* first = entry();
  if (first == nullptr) return findings.fail(2, "the entry returned NULL");
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round)
        if (entry() != first) return findings.fail(2, "the entry returned another descriptor");
    });
  for (std::thread& thread : threads) thread.join();
}

void entry_makes_no_system_call(Findings& findings, const Subject& subject) {
  // not called before, and on a first thread: the first allocation there makes an arena
  LoadedPlugin plugin(findings, subject.plugin);
  if (!plugin.open()) return findings.not_applicable(2, "{}", plugin.why());
  trap_imports(reinterpret_cast<const void*>(plugin.entry()), TrapKind::all, findings, 2);
  const auto call = [&] {
    const RunningCall running(findings, kEntry, nullptr);
    plugin.entry()();
    plugin.entry()();
  };
  if (!on_filtered_thread(kNoCalls, findings, 2, call))
    findings.not_applicable(2, "no system call filter here");
}

/// A descriptor with its texts.
struct Content {
  explicit Content(const vmm_plugin& descriptor)
      : bytes(reinterpret_cast<const char*>(&descriptor),
              std::min<std::size_t>(descriptor.struct_size, sizeof descriptor)) {
    for (const char* text :
         {descriptor.name, descriptor.version, descriptor.description, descriptor.options_help})
      texts += text != nullptr ? text : "(NULL)";
  }
  bool operator==(const Content&) const = default;
  std::string bytes, texts;
};

void check_fields(Findings& findings, const vmm_plugin& it) {
  constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyz0123456789_-";
  if (it.flags != 0) findings.fail(3, "flags is {:#x}, not 0", it.flags);
  if (it.name == nullptr || it.name[0] == '\0')
    findings.fail(3, "no name");
  else if (std::string_view(it.name).find_first_not_of(kNameCharacters) != std::string_view::npos)
    findings.fail(3, "the name \"{}\" is not of [a-z0-9_-]", it.name);
  if (it.version == nullptr || it.version[0] == '\0') findings.fail(3, "no version");
  if (it.create == nullptr) findings.fail(3, "create is NULL");
  if (it.destroy == nullptr) findings.fail(3, "destroy is NULL");
  if (it.description != nullptr && std::strchr(it.description, '\n') != nullptr)
    findings.fail(3, "the description has more than one line");
  const std::string_view help = it.options_help != nullptr ? it.options_help : "";
  if (!help.empty() && !help.ends_with('\n'))
    findings.fail(3, "the last line of options_help does not end in a newline");
  for (const char* text : {it.name, it.version, it.description, it.options_help})
    if (text != nullptr && !is_utf8(text)) findings.fail(3, "a text that is no UTF-8");
}

void descriptor_is_well_formed(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 3);
  const bool loaded = scene.plugin.load();
  if (scene.plugin.entry() == nullptr) return findings.not_applicable(3, "{}", scene.plugin.why());
  const vmm_plugin* given = scene.plugin.entry()();
  if (given == nullptr) return findings.not_applicable(3, "the entry returned NULL");
  if (!loaded) findings.fail(3, "{}", scene.plugin.why());
  if (given->struct_size < host_kit::kPluginSizeV1_0) return;
  check_fields(findings, *given);
  findings.pass(3, "{} {}", given->name != nullptr ? given->name : "",
                given->version != nullptr ? given->version : "");
}

void descriptor_is_constant(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 3);
  if (!scene.load()) return;
  const Content before(*scene.plugin.entry()());
  if (const auto life = scene.live()) {
    if (const auto vm = scene.vm(*life)) {
      if (life->has(kVcpuReset)) life->reset(*vm, 0);
      life->end_vm(*vm);
    }
    life->destroy();
  }
  if (Content(*scene.plugin.entry()()) != before)
    findings.fail(3, "the descriptor is not what it was at loading");
}

void extensions_are_known_or_null(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 26);
  if (!scene.load()) return;
  if (scene.plugin.descriptor().get_extension == nullptr)
    return findings.not_applicable(26, "it has no get_extension");
  for (const char* id : {"nobody.has_this/1", "", "/", "nobody.has_this"}) {
    const RunningCall call(findings, kGetExtension, nullptr);
    if (scene.plugin.descriptor().get_extension(id) != nullptr)
      findings.fail(26, "get_extension(\"{}\") is not NULL", id);
  }
}

constexpr Check kChecks[] = {
    {1, exports_the_entry_alone},
    {6, file_is_fit},
    {2, entry_is_pure},
    {2, entry_makes_no_system_call, Check::without},
    {3, descriptor_is_well_formed},
    {26, extensions_are_known_or_null},
};

constexpr Check kLaterChecks[] = {
    {3, descriptor_is_constant},
};

}  // namespace

std::span<const Check> descriptor_checks() { return kLaterChecks; }

std::span<const Check> file_checks() { return kChecks; }

}  // namespace host_stub::validate
