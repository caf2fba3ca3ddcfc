// SPDX-License-Identifier: MIT
#include "host_preload/vmm_command_line.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>

#include "host_preload/real_calls.hpp"

namespace host_preload {
namespace {

/// The parts of "a,b,,c": "a" and "b,c", for a doubled comma is a literal one.
std::vector<std::string> split_options(std::string_view text) {
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      parts.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      parts.back() += ',';
      ++i;
    } else {
      parts.emplace_back();
    }
  }
  return parts;
}

struct Setting {
  std::string_view key;
  std::string_view value;
};

/// "key=value", or nullopt.
std::optional<Setting> setting_of(std::string_view part) {
  const std::size_t equals = part.find('=');
  if (equals == std::string_view::npos) return std::nullopt;
  return Setting{part.substr(0, equals), part.substr(equals + 1)};
}

std::optional<GuestPmu> switch_of(std::string_view value) {
  struct Word {
    std::string_view text;
    GuestPmu pmu;
  };
  static constexpr std::array<Word, 8> kWords{{{"on", GuestPmu::on},
                                               {"yes", GuestPmu::on},
                                               {"true", GuestPmu::on},
                                               {"y", GuestPmu::on},
                                               {"off", GuestPmu::off},
                                               {"no", GuestPmu::off},
                                               {"false", GuestPmu::off},
                                               {"n", GuestPmu::off}}};
  const auto* word = std::find_if(kWords.begin(), kWords.end(),
                                  [value](const Word& each) { return each.text == value; });
  if (word == kWords.end()) return std::nullopt;
  return word->pmu;
}

/// What one -cpu says; nullopt: nothing.
std::optional<GuestPmu> pmu_of_cpu(std::string_view text) {
  std::optional<GuestPmu> set;
  bool plus = false, minus = false;
  const std::vector<std::string> parts = split_options(text);
  for (const std::string_view part : std::span(parts).subspan(1)) {  // after the model
    plus = plus || part == "+pmu";
    minus = minus || part == "-pmu";
    if (part == "pmu") set = GuestPmu::on;
    const auto setting = setting_of(part);
    if (!setting || setting->key != "pmu") continue;
    if (const auto value = switch_of(setting->value)) set = value;
  }
  if (minus) return GuestPmu::off;
  if (plus) return GuestPmu::on;
  return set;
}

bool is_cpu_driver(std::string_view driver) {
  return driver == "cpu" || driver == "x86_64-cpu" || driver.ends_with("-x86_64-cpu");
}

/// What one -global says; nullopt: nothing of a CPU's PMU.
std::optional<GuestPmu> pmu_of_global(std::string_view text) {
  std::string_view driver, property, value;
  const std::vector<std::string> parts = split_options(text);
  for (const std::string_view part : parts) {
    const auto setting = setting_of(part);
    if (!setting) return std::nullopt;
    if (setting->key == "driver") driver = setting->value;
    if (setting->key == "property") property = setting->value;
    if (setting->key == "value") value = setting->value;
    if (const std::size_t dot = setting->key.find('.'); dot != std::string_view::npos) {
      driver = setting->key.substr(0, dot);
      property = setting->key.substr(dot + 1);
      value = setting->value;
    }
  }
  if (!is_cpu_driver(driver) || property != "pmu") return std::nullopt;
  return switch_of(value);
}

/// The name that one -name gives; nullopt: none.
std::optional<std::string> name_of(std::string_view text) {
  std::optional<std::string> name;
  const std::vector<std::string> parts = split_options(text);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto setting = setting_of(parts[i]);
    if (setting && setting->key == "guest") name = setting->value;
    if (!setting && i == 0) name = parts[i];  // the first key may be left out
  }
  return name;
}

/// "cpu" of "-cpu" or "--cpu"; empty: no option.
std::string_view option_of(std::string_view argument) {
  if (!argument.starts_with('-')) return {};
  argument.remove_prefix(1);
  if (argument.starts_with('-')) argument.remove_prefix(1);
  return argument;
}

}  // namespace

VmmCommandLine read_command_line(std::span<const std::string> arguments) {
  VmmCommandLine read;
  std::optional<GuestPmu> by_cpu, by_global;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view option = option_of(arguments[i]);
    if (option.starts_with("name=")) {
      if (auto name = name_of(option.substr(5))) read.vm_name = std::move(*name);
    }
    if (i + 1 == arguments.size()) break;
    const std::string& value = arguments[i + 1];
    if (option == "cpu") by_cpu = pmu_of_cpu(value);
    if (option == "global") {
      if (const auto pmu = pmu_of_global(value)) by_global = pmu;
    }
    if (option == "name") {
      if (auto name = name_of(value)) read.vm_name = std::move(*name);
    }
    if (option == "cpu" || option == "global" || option == "name") ++i;
  }
  read.guest_pmu = by_cpu.value_or(by_global.value_or(GuestPmu::unsaid));
  return read;
}

std::vector<std::string> own_command_line() {
  std::vector<std::string> arguments;
  const int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return arguments;
  std::array<char, 4096> part;
  bool inside = false;
  for (;;) {
    const ssize_t n = read(fd, part.data(), part.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    for (const char c : std::string_view(part.data(), static_cast<std::size_t>(n))) {
      if (!inside) arguments.emplace_back();
      inside = c != '\0';
      if (inside) arguments.back() += c;
    }
  }
  real_close(fd);
  return arguments;
}

}  // namespace host_preload
