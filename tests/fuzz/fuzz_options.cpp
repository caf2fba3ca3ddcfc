// SPDX-License-Identifier: MIT
//
// The option string: parse_options, and create behind the descriptor, against a slow parser of our
// own. The input is the string.
#include <vmm/plugin.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "options.hpp"
#include "require.hpp"
#include "target.hpp"

namespace {

using svm_pmu::Options;
using svm_pmu::PmuCpuid;
using svm_pmu::PmuOff;
using svm_pmu::PmuOffMethod;

// ---- the slow parser ---------------------------------------------------------------------------

/// What a string comes to: options, or what an error's text must name.
struct Reading {
  std::map<std::string, std::string> values;  ///< key -> value, canonical words
  std::optional<std::string> named;           ///< an error; "" = nothing in particular
};

bool well_formed(const std::string& text) {
  // by the code points that the bytes stand for
  for (std::size_t i = 0; i < text.size();) {
    const auto at = [&](std::size_t k) -> uint32_t {
      return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0;
    };
    const auto tail = [&](std::size_t k) { return at(k) >= 0x80 && at(k) <= 0xbf; };
    uint32_t point = at(0);
    std::size_t length = 1;
    if (point >= 0x80) {
      if (point >= 0xc0 && point <= 0xdf && tail(1)) {
        point = (point & 0x1f) << 6 | (at(1) & 0x3f);
        length = 2;
        if (point < 0x80) return false;
      } else if (point >= 0xe0 && point <= 0xef && tail(1) && tail(2)) {
        point = (point & 0xf) << 12 | (at(1) & 0x3f) << 6 | (at(2) & 0x3f);
        length = 3;
        if (point < 0x800 || (point >= 0xd800 && point <= 0xdfff)) return false;
      } else if (point >= 0xf0 && point <= 0xf7 && tail(1) && tail(2) && tail(3)) {
        point = (point & 7) << 18 | (at(1) & 0x3f) << 12 | (at(2) & 0x3f) << 6 | (at(3) & 0x3f);
        length = 4;
        if (point < 0x10000 || point > 0x10ffff) return false;
      } else {
        return false;
      }
    }
    i += length;
  }
  return true;
}

/// word -> canonical word, of each key.
const std::map<std::string, std::map<std::string, std::string>>& vocabulary() {
  static const std::map<std::string, std::string> boolean{
      {"on", "on"},   {"true", "on"},   {"yes", "on"}, {"1", "on"},
      {"off", "off"}, {"false", "off"}, {"no", "off"}, {"0", "off"}};
  static const std::map<std::string, std::map<std::string, std::string>> all{
      {"pmu-cap-disabled",
       {{"on", "on"},
        {"true", "on"},
        {"yes", "on"},
        {"1", "on"},
        {"off", "off"},
        {"false", "off"},
        {"no", "off"},
        {"0", "off"},
        {"auto", "auto"}}},
      {"pmu-cpuid", {{"auto", "auto"}, {"hide", "hide"}, {"keep", "keep"}}},
      {"pmu-off-method", {{"auto", "auto"}, {"cap", "cap"}, {"msr-filter", "msr-filter"}}},
      {"pmu-reset", boolean},
      {"pmu-state", boolean},
      {"verify", boolean},
      {"strict", boolean},
      {"log-level",
       {{"error", "error"}, {"warning", "warning"}, {"info", "info"}, {"debug", "debug"}}}};
  return all;
}

std::string shown_beginning(const std::string& raw) {
  std::string out;
  for (const char c : raw.substr(0, 48)) {
    if (c >= ' ' && c <= '~') {
      out += c;
      continue;
    }
    std::array<char, 8> escape{};
    std::snprintf(escape.data(), escape.size(), "\\x%02x", static_cast<unsigned char>(c));
    out += escape.data();
  }
  return out;
}

Reading read_slowly(const std::string& text) {
  Reading reading;
  const auto wrong = [&](const std::string& what) {
    reading.named = what;
    return reading;
  };
  if (text.size() > 4096) return wrong(std::to_string(text.size()));
  if (!well_formed(text)) return wrong("UTF-8");
  if (text.empty()) return reading;

  // a comma is a literal one or a border; of a run of commas each pair is a literal one
  std::vector<std::string> parts{""};
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool doubled = text.compare(i, 2, ",,") == 0;
    if (text[i] == ',' && !doubled)
      parts.emplace_back();
    else
      parts.back() += text[i];
    if (doubled) ++i;
  }
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const std::string& part : parts) {
    if (part.empty()) return wrong("empty option");
    const std::size_t equals = part.find('=');
    if (equals == std::string::npos) return wrong(shown_beginning(part));
    const std::string key = part.substr(0, equals);
    if (key.empty()) return wrong(shown_beginning(part));
    if (!vocabulary().contains(key)) return wrong(shown_beginning(key));
    if (equals + 1 == part.size()) return wrong("'" + key + "'");
    pairs.emplace_back(key, part.substr(equals + 1));
  }
  for (const auto& [key, value] : pairs) {
    if (reading.values.contains(key)) return wrong("'" + key + "'");
    const auto& words = vocabulary().at(key);
    if (!words.contains(value)) return wrong("'" + key + "'");
    reading.values[key] = words.at(value);
  }
  return reading;
}

// ---- the same as Options -----------------------------------------------------------------------

std::map<std::string, std::string> words_of(const Options& options) {
  const auto boolean = [](bool value) { return std::string(value ? "on" : "off"); };
  const char* method = options.pmu_off_method == PmuOffMethod::automatic ? "auto"
                       : options.pmu_off_method == PmuOffMethod::cap     ? "cap"
                                                                         : "msr-filter";
  const char* level = options.log_level == VMM_LOG_ERROR     ? "error"
                      : options.log_level == VMM_LOG_WARNING ? "warning"
                      : options.log_level == VMM_LOG_INFO    ? "info"
                      : options.log_level == VMM_LOG_DEBUG   ? "debug"
                                                             : "?";
  const char* off = options.pmu_cap_disabled == PmuOff::on    ? "on"
                    : options.pmu_cap_disabled == PmuOff::off ? "off"
                                                              : "auto";
  const char* cpuid = options.pmu_cpuid == PmuCpuid::hide   ? "hide"
                      : options.pmu_cpuid == PmuCpuid::keep ? "keep"
                                                            : "auto";
  return {{"pmu-cap-disabled", off},
          {"pmu-cpuid", cpuid},
          {"pmu-off-method", method},
          {"pmu-reset", boolean(options.pmu_reset)},
          {"pmu-state", boolean(options.pmu_state)},
          {"verify", boolean(options.verify)},
          {"strict", boolean(options.strict)},
          {"log-level", level}};
}

const std::map<std::string, std::string> kDefaults{
    {"pmu-cap-disabled", "off"}, {"pmu-cpuid", "auto"},   {"pmu-off-method", "auto"},
    {"pmu-reset", "on"},         {"pmu-state", "on"},     {"verify", "off"},
    {"strict", "off"},           {"log-level", "warning"}};

std::string rendered(const std::map<std::string, std::string>& values) {
  std::string text;
  for (const auto& [key, value] : values) text += (text.empty() ? "" : ",") + key + "=" + value;
  return text;
}

// ---- create ------------------------------------------------------------------------------------

/// A host that is only there to be given the hooks.
struct TableHost {
  vmm_hooks hooks{};
  void* ctx = nullptr;
  int registrations = 0;
  vmm_host table{};

  TableHost() {
    table.struct_size = sizeof table;
    table.abi_major = VMM_PLUGIN_ABI_MAJOR;
    table.abi_minor = VMM_PLUGIN_ABI_MINOR;
    table.host_ctx = this;
    table.name = "fuzz";
    table.register_hooks = [](void* self, const vmm_hooks* given, void* given_ctx) -> int32_t {
      auto& me = *static_cast<TableHost*>(self);
      me.hooks = *given;
      me.ctx = given_ctx;
      ++me.registrations;
      return 0;
    };
    table.vm_ioctl = [](void*, vmm_vm_handle, uint32_t, void*) -> int32_t { return -EBADF; };
    table.vcpu_ioctl = [](void*, vmm_vcpu_handle, uint32_t, void*) -> int32_t { return -EBADF; };
    table.log = [](void*, uint32_t, const char*, uint64_t) {};
  }
};

void check_create(const std::string& text, const Reading& expected) {
  TableHost host;
  // a buffer of some length between one byte and more than any text
  const std::size_t capacity = 1 + text.size() * 37 % 600;
  std::string buffer(capacity + 1, '\x5a');
  buffer[0] = '\0';
  vmm_error error{sizeof(vmm_error), static_cast<uint32_t>(capacity), buffer.data()};
  int untouched = 0;
  void* ctx = &untouched;
  const vmm_plugin& plugin = *vmm_plugin_v1();
  const int32_t result = plugin.create(&host.table, text.c_str(), &ctx, &error);
  FUZZ_REQUIRE(buffer.back() == '\x5a', "written behind the buffer");
  const std::string said(buffer, 0, buffer.find('\0'));
  FUZZ_REQUIRE(said.size() < capacity, said);
  FUZZ_REQUIRE(fuzz::is_line_of_utf8(said), said);
  if (expected.named) {
    FUZZ_REQUIRE(result == -EINVAL, std::to_string(result));
    FUZZ_REQUIRE(ctx == &untouched, "");
    FUZZ_REQUIRE(host.registrations == 0, "");
    FUZZ_REQUIRE(capacity == 1 || !said.empty(), "");
    return;
  }
  FUZZ_REQUIRE(result == 0, said);
  FUZZ_REQUIRE(said.empty(), said);
  FUZZ_REQUIRE(host.registrations == 1 && ctx == host.ctx, "");
  std::map<std::string, std::string> full = kDefaults;
  for (const auto& [key, value] : expected.values) full[key] = value;
  FUZZ_REQUIRE((host.hooks.vcpu_reset != nullptr) == (full["pmu-reset"] == "on"), "");
  FUZZ_REQUIRE((host.hooks.msr_list_build != nullptr) == (full["pmu-state"] == "on"), "");
  plugin.destroy(ctx);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  // up to the first NUL, as the plugin gets it
  const std::string text(reinterpret_cast<const char*>(data),
                         static_cast<std::size_t>(std::find(data, data + size, 0) - data));
  const Reading expected = read_slowly(text);
  const auto parsed = svm_pmu::parse_options(text.c_str());
  FUZZ_REQUIRE(parsed.has_value() != expected.named.has_value(),
               parsed ? rendered(words_of(*parsed)) : std::string(parsed.error().text.view()));
  if (parsed) {
    std::map<std::string, std::string> full = kDefaults;
    for (const auto& [key, value] : expected.values) full[key] = value;
    FUZZ_REQUIRE(words_of(*parsed) == full, rendered(words_of(*parsed)));
    const auto again = svm_pmu::parse_options(rendered(full).c_str());
    FUZZ_REQUIRE(again && words_of(*again) == full, "read back");
  } else {
    const std::string said(parsed.error().text.view());
    FUZZ_REQUIRE(parsed.error().code == -EINVAL, said);
    FUZZ_REQUIRE(said.starts_with("options: "), said);
    FUZZ_REQUIRE(said.find(*expected.named) != std::string::npos,
                 said + " names " + *expected.named);
    FUZZ_REQUIRE(fuzz::is_line_of_utf8(said), said);
  }
  check_create(text, expected);
  return 0;
}
