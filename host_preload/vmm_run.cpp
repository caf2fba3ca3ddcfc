// SPDX-License-Identifier: MIT
//
// vmm-run: checks that preloading can work, sets the environment up and becomes the program.
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "host_kit/plugin_library.hpp"
#include "host_kit/version.hpp"
#include "host_preload/config.hpp"
#include "host_preload/launch.hpp"
#include "host_preload/program_check.hpp"

namespace {

using namespace host_preload;
using Result = tl::expected<void, std::string>;

// as env(1) and timeout(1)
constexpr int kCannotWork = 125;
constexpr int kCannotRun = 126;
constexpr int kNotFound = 127;

int stop(int status, const std::string& why) {
  std::fprintf(stderr, "vmm-run: %s\n", why.c_str());
  return status;
}

std::string absolute(const std::string& path) {
  std::array<char, PATH_MAX> buffer{};
  return realpath(path.c_str(), buffer.data()) != nullptr ? buffer.data() : path;
}

std::string folder_of(const std::string& file) { return file.substr(0, file.find_last_of('/')); }

/// The preload library: the one named, beside this program (build tree), relative to it (any
/// prefix), where it was configured to be.
tl::expected<std::string, std::string> find_library(const std::string& named) {
  const std::string here = folder_of(absolute("/proc/self/exe"));
  const std::vector<std::string> candidates =
      named.empty()
          ? std::vector<std::string>{here + "/libvmm_preload.so",
                                     here + "/../" VMM_PRELOAD_LIBDIR "/libvmm_preload.so",
                                     VMM_PRELOAD_FULL_LIBDIR "/libvmm_preload.so"}
          : std::vector<std::string>{named};
  for (const std::string& candidate : candidates)
    if (access(candidate.c_str(), R_OK) == 0) return absolute(candidate);
  return tl::unexpected("there is no preload library: " + candidates.back());
}

/// Finds each plugin and looks whether it is one. Paths become absolute: the program may change its
/// folder before it makes a VM.
Result resolve_plugins(std::vector<std::string>& plugins, const std::string& library) {
  const std::vector<std::string> folders = plugin_folders(folder_of(library));
  for (std::string& plugin : plugins) {
    const std::size_t comma = plugin.find(',');
    const std::string name = plugin.substr(0, comma);
    const auto file = host_kit::find_plugin(name, folders);
    if (!file) return tl::unexpected(file.error());
    const std::string path = absolute(*file);
    if (const auto loaded = host_kit::PluginLibrary::open(path); !loaded)
      return tl::unexpected(loaded.error());
    plugin = path + (comma == std::string::npos ? "" : plugin.substr(comma));
  }
  return {};
}

/// Makes the log's path absolute and sees that it can be written.
Result resolve_log(std::string& log) {
  if (log.empty() || log == "stderr") return {};
  const int fd = open(log.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return tl::unexpected("the log " + log + ": " + std::strerror(errno));
  close(fd);
  log = absolute(log);
  return {};
}

/// What --plugin named, or else the variable that is there already.
std::vector<std::string> wanted_plugins(const LaunchOptions& options, const Config& inherited) {
  if (!options.plugins.empty()) return options.plugins;
  std::vector<std::string> plugins;
  for (const PluginSpec& spec : inherited.plugins)
    plugins.push_back(spec.file + (spec.options.empty() ? "" : "," + spec.options));
  return plugins;
}

void set_unless_empty(const char* variable, const std::string& value) {
  if (!value.empty()) setenv(variable, value.c_str(), 1);
}

/// Everything that a program needs to be run with plugins. Error: why it cannot work.
Result set_up(LaunchOptions& options, const std::string& program) {
  if (Result result = check_program(program); !result)
    return tl::unexpected(program + ": " + result.error());
  if (Result result = check_kvm(); !result) return result;
  auto library = find_library(options.library);
  if (!library) return tl::unexpected(library.error());
  if (Result result = resolve_log(options.log); !result) return result;
  set_unless_empty(kLogVariable, options.log);
  set_unless_empty(kRuleVariable, options.reset_rule);
  set_unless_empty(kOnErrorVariable, options.on_error);
  const auto config = parse_config(read_environment());
  if (!config) return tl::unexpected(config.error());
  std::vector<std::string> plugins = wanted_plugins(options, *config);
  if (plugins.empty()) return tl::unexpected(std::string("no plugin was named; see --help"));
  if (Result result = resolve_plugins(plugins, *library); !result) return result;
  setenv(kPluginsVariable, join_plugins(plugins).c_str(), 1);
  const char* before = getenv("LD_PRELOAD");
  const auto preload = join_preload(*library, before != nullptr ? before : "");
  if (!preload) return tl::unexpected(preload.error());
  setenv("LD_PRELOAD", preload->c_str(), 1);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  auto options = parse_launch({argv + 1, argv + argc});
  if (!options) return stop(kCannotWork, options.error());
  if (options->help) return std::fputs(launch_help().data(), stdout) < 0 ? kCannotWork : 0;
  if (options->version)
    return std::puts(host_kit::version_line("vmm-run").c_str()) < 0 ? kCannotWork : 0;
  const auto program = find_program(options->command.front());
  if (!program) return stop(kNotFound, program.error());
  if (const Result result = set_up(*options, *program); !result)
    return stop(kCannotWork, result.error());
  if (options->check_only) return std::puts("vmm-run: nothing speaks against it") < 0;
  std::vector<char*> arguments;
  for (std::string& argument : options->command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  execv(program->c_str(), arguments.data());
  return stop(kCannotRun, *program + ": " + std::strerror(errno));
}
