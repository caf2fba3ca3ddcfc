// SPDX-License-Identifier: MIT
//
// The text of a configuration file. Whatever it holds: each problem is a line of its own that names
// file and line; who asks decides which plugins there are, and nothing about what is wrong; a
// plugin is in the list once; and what was read can be written and read again.
#include <algorithm>
#include <cctype>
#include <set>
#include <string>

#include "fuzz/require.hpp"
#include "fuzz/target.hpp"
#include "host_preload/config_file.hpp"

namespace {

using namespace host_preload;

Config parsed(const std::string& text, const Subject& subject) {
  Config config;
  parse_config_text(text, "F", subject, config);
  return config;
}

void check_problem(const std::string& problem) {
  FUZZ_REQUIRE(problem.starts_with("F:") && problem.size() > 3 &&
                   std::isdigit(static_cast<unsigned char>(problem[2])) != 0,
               problem);
  FUZZ_REQUIRE(problem.find(": ") != std::string::npos, problem);
  FUZZ_REQUIRE(std::none_of(problem.begin(), problem.end(),
                            [](char c) { return static_cast<unsigned char>(c) < 0x20; }),
               problem);
  FUZZ_REQUIRE(problem.size() < 300, problem);
}

void check_config(const Config& config) {
  for (const std::string& problem : config.problems) check_problem(problem);
  FUZZ_REQUIRE(config.problems.size() <= 8, "");
  std::set<std::string> names;
  std::string written;
  for (const PluginSpec& plugin : config.plugins) {
    FUZZ_REQUIRE(!plugin.file.empty(), plugin.options);
    FUZZ_REQUIRE(names.insert(plugin_name(plugin.file)).second, plugin.file);
    written += "plugin = " + plugin.file + "," + plugin.options + "\n";
  }
  if (!config.log.empty()) written += "log = " + config.log + "\n";
  const Config again = parsed(written, {});
  FUZZ_REQUIRE(again.problems.empty(), again.problems.empty() ? "" : again.problems[0]);
  FUZZ_REQUIRE(again.plugins == config.plugins, written);
  FUZZ_REQUIRE(again.log == config.log, written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const Config nobody = parsed(text, {});
  const Config qemu = parsed(text, {"/usr/bin/qemu-system-x86_64", "web1"});
  check_config(nobody);
  check_config(qemu);
  FUZZ_REQUIRE(nobody.problems == qemu.problems, "the problems depend on who asks");
  return 0;
}
