// SPDX-License-Identifier: MIT
#include "host_preload/config.hpp"

#include <limits.h>
#include <unistd.h>

#include <cstdlib>

#include "host_preload/config_file.hpp"
#include "host_preload/vmm_command_line.hpp"

namespace host_preload {
namespace {

using Result = tl::expected<void, std::string>;

template <typename Value>
struct Choice {
  std::string_view name;
  Value value;
};
constexpr std::array<Choice<ResetRule>, 2> kRules{
    {{"strong", ResetRule::strong}, {"broad", ResetRule::broad}}};
constexpr std::array<Choice<bool>, 2> kOnError{{{"fail", false}, {"continue", true}}};

template <typename Value, std::size_t N>
Result choose(Value& value, std::string_view text, const std::array<Choice<Value>, N>& choices) {
  for (const auto& choice : choices)
    if (choice.name == text || text.empty()) {
      value = choice.value;
      return {};
    }
  return tl::unexpected("use " + std::string(choices[0].name) + " or " +
                        std::string(choices[1].name));
}

Result set_log(Config& config, std::string_view text) {
  config.log = text;
  return {};
}
Result set_rule(Config& config, std::string_view text) { return choose(config.rule, text, kRules); }
Result set_on_error(Config& config, std::string_view text) {
  return choose(config.continue_on_error, text, kOnError);
}

void apply_variables(Config& config, const Environment& environment) {
  for (const Setting& setting : kSettings) {
    const char* value = environment.*setting.value;
    if (value == nullptr) continue;
    if (const Result result = setting.set(config, value); !result)
      config.problems.push_back(std::string(setting.variable) + "=" + value + ": " +
                                result.error());
  }
  if (environment.plugins == nullptr) return;
  auto plugins = host_kit::parse_plugin_list(environment.plugins);
  if (plugins)
    config.plugins = std::move(*plugins);
  else
    config.problems.push_back(std::string(kPluginsVariable) + ": " + plugins.error());
}

}  // namespace

const std::array<Setting, 3> kSettings{{
    {"log", kLogVariable, &Environment::log, set_log},
    {"reset-rule", kRuleVariable, &Environment::reset_rule, set_rule},
    {"on-error", kOnErrorVariable, &Environment::on_error, set_on_error},
}};

Environment read_environment() noexcept {
  return {secure_getenv(kPluginsVariable), secure_getenv(kLogVariable),
          secure_getenv(kRuleVariable), secure_getenv(kOnErrorVariable),
          secure_getenv(kConfigFileVariable)};
}

Subject this_process() {
  std::array<char, PATH_MAX> program{};
  const ssize_t length = readlink("/proc/self/exe", program.data(), program.size() - 1);
  std::string path(program.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  // what the kernel adds once a package's update has replaced the file
  constexpr std::string_view kDeleted = " (deleted)";
  if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  return {std::move(path), read_command_line(own_command_line()).vm_name};
}

Config read_config(const Environment& environment, const Subject& subject) {
  Config config;
  if (environment.plugins == nullptr) {
    const char* named = environment.config_file;
    if (named == nullptr)
      read_config_files({kConfigFile, false}, subject, config);
    else if (*named != '\0')
      read_config_files({named, true}, subject, config);
  }
  apply_variables(config, environment);
  return config;
}

std::vector<std::string> plugin_folders(std::string_view library_folder) {
  const std::string here(library_folder);
  return {here, here + "/../plugin", here + "/../vmm/plugins", VMM_PLUGIN_FOLDER};
}

}  // namespace host_preload
