// SPDX-License-Identifier: MIT
#include "host_preload/config.hpp"

#include <array>
#include <cstdlib>

namespace host_preload {
namespace {

template <typename Value>
struct Choice {
  std::string_view name;
  Value value;
};
constexpr std::array<Choice<ResetRule>, 2> kRules{
    {{"strong", ResetRule::strong}, {"broad", ResetRule::broad}}};
constexpr std::array<Choice<bool>, 2> kOnError{{{"fail", false}, {"continue", true}}};

template <typename Value, std::size_t N>
tl::expected<Value, std::string> choose(const char* variable, const char* text,
                                        const std::array<Choice<Value>, N>& choices) {
  if (text == nullptr || *text == '\0') return choices[0].value;
  for (const auto& choice : choices)
    if (choice.name == text) return choice.value;
  return tl::unexpected(std::string(variable) + "=" + text + ": use " +
                        std::string(choices[0].name) + " or " + std::string(choices[1].name));
}

}  // namespace

Environment read_environment() noexcept {
  return {secure_getenv(kPluginsVariable), secure_getenv(kLogVariable),
          secure_getenv(kRuleVariable), secure_getenv(kOnErrorVariable)};
}

tl::expected<Config, std::string> parse_config(const Environment& environment) {
  Config config;
  const auto plugins =
      host_kit::parse_plugin_list(environment.plugins != nullptr ? environment.plugins : "");
  if (!plugins) return tl::unexpected(std::string(kPluginsVariable) + ": " + plugins.error());
  const auto rule = choose(kRuleVariable, environment.reset_rule, kRules);
  if (!rule) return tl::unexpected(rule.error());
  const auto on_error = choose(kOnErrorVariable, environment.on_error, kOnError);
  if (!on_error) return tl::unexpected(on_error.error());
  config.plugins = *plugins;
  config.log = environment.log != nullptr ? environment.log : "";
  config.rule = *rule;
  config.continue_on_error = *on_error;
  return config;
}

std::vector<std::string> plugin_folders(std::string_view library_folder) {
  const std::string here(library_folder);
  return {here, here + "/../plugin", here + "/../vmm/plugins", VMM_PLUGIN_FOLDER};
}

}  // namespace host_preload
