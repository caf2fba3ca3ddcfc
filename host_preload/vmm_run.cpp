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
#include <set>
#include <string>
#include <vector>

#include "host_kit/host.hpp"
#include "host_kit/plugin_instance.hpp"
#include "host_kit/plugin_library.hpp"
#include "host_kit/version.hpp"
#include "host_preload/config.hpp"
#include "host_preload/config_file.hpp"
#include "host_preload/launch.hpp"
#include "host_preload/program_check.hpp"
#include "host_preload/vmm_command_line.hpp"

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

/// What a plugin is created for where there is no VM yet: it can read its options.
class NoKvm final : public host_kit::Host {
 public:
  const char* name() const noexcept override { return "vmm-run " SVM_PMU_VERSION; }
  int32_t vm_ioctl(vmm_vm_handle, uint32_t, void*) noexcept override { return -ENODEV; }
  int32_t vcpu_ioctl(vmm_vcpu_handle, uint32_t, void*) noexcept override { return -ENODEV; }
  void log(uint32_t level, std::string_view source, std::string_view message) noexcept override {
    if (level <= VMM_LOG_WARNING)
      std::fprintf(stderr, "vmm-run: %.*s: %.*s\n", static_cast<int>(source.size()), source.data(),
                   static_cast<int>(message.size()), message.data());
  }
};

/// Finds each plugin and looks whether it is one; with `create` asks it about its options. Paths
/// become absolute: the program may change its folder before it makes a VM.
Result resolve_plugins(std::vector<PluginSpec>& plugins, const std::string& library, bool create) {
  const std::vector<std::string> folders = plugin_folders(folder_of(library));
  std::set<std::string> names;
  for (PluginSpec& plugin : plugins) {
    if (!names.insert(plugin_name(plugin.file)).second)
      return tl::unexpected(plugin.file + ": the same plugin is named twice");
    const auto file = host_kit::find_plugin(plugin.file, folders);
    if (!file) return tl::unexpected(file.error());
    plugin.file = absolute(*file);
    const auto loaded = host_kit::PluginLibrary::open(plugin.file);
    if (!loaded) return tl::unexpected(loaded.error());
    if (!create) continue;
    NoKvm host;
    const auto instance =
        host_kit::PluginInstance::create(loaded->descriptor(), host, plugin.options.c_str());
    if (!instance) return tl::unexpected(instance.error().text);
  }
  return {};
}

/// Makes the log's path absolute and sees that it can be written.
Result resolve_log(std::string& log) {
  if (log.empty() || log == "stderr" || log == "journal") return {};
  const int fd = open(log.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return tl::unexpected("the log " + log + ": " + std::strerror(errno));
  close(fd);
  log = absolute(log);
  return {};
}

/// The options become variables; those of one word are judged here, under the names that the
/// operator wrote.
Result set_variables(const LaunchOptions& options) {
  const std::array<std::string, kSettings.size()> values{options.log, options.reset_rule,
                                                         options.on_error};
  for (std::size_t i = 0; i < kSettings.size(); ++i) {
    if (values[i].empty()) continue;
    Config scratch;
    if (const Result result = kSettings[i].set(scratch, values[i]); !result)
      return tl::unexpected("--" + std::string(kSettings[i].key) + " " + values[i] + ": " +
                            result.error());
    setenv(kSettings[i].variable, values[i].c_str(), 1);
  }
  if (!options.plugins.empty()) setenv(kPluginsVariable, join_plugins(options.plugins).c_str(), 1);
  return {};
}

/// What variables and file say. Problems are named; one that stands in the way is an error.
tl::expected<Config, std::string> judge_config(const LaunchOptions& options,
                                               const std::string& program) {
  const Config config = read_config(
      read_environment(), {absolute(program), read_command_line(options.command).vm_name});
  for (const std::string& problem : config.problems) stop(kCannotWork, problem);
  if (!config.problems.empty() && (options.check_only || !config.continue_on_error))
    return tl::unexpected(std::string("the configuration cannot be used"));
  if (config.plugins.empty() && config.file.empty())
    return tl::unexpected(std::string("no plugin was named, and there is no ") + kConfigFile +
                          "; see --help");
  return config;
}

Result judge_kvm(const LaunchOptions& options) {
  Result result = check_kvm();
  if (result || options.require_kvm || options.check_only) return result;
  // a VMM that is asked what it can do, or that emulates, needs no KVM
  std::fprintf(stderr, "vmm-run: warning: %s; no plugin will be called\n", result.error().c_str());
  return {};
}

/// What only --check asks.
Result check_further(const LaunchOptions& options) {
  if (std::string advice = accelerator_advice(options.command); !advice.empty())
    return tl::unexpected(std::move(advice));
  return {};
}

/// Everything that a program needs to be run with plugins. Error: why it cannot work.
tl::expected<Config, std::string> set_up(LaunchOptions& options, const std::string& program) {
  if (std::string advice = client_advice(options.command); !advice.empty())
    return tl::unexpected(std::move(advice));
  if (Result result = check_program(program); !result)
    return tl::unexpected(program + ": " + result.error());
  const auto library = find_library(options.library);
  if (!library) return tl::unexpected(library.error());
  if (Result result = resolve_log(options.log); !result) return tl::unexpected(result.error());
  if (Result result = set_variables(options); !result) return tl::unexpected(result.error());
  auto config = judge_config(options, program);
  if (!config) return config;
  if (Result result = resolve_plugins(config->plugins, *library, options.check_only); !result)
    return tl::unexpected(result.error());
  // the file's rules are the library's to apply, in each process that comes of this one
  if (config->file.empty()) setenv(kPluginsVariable, join_plugins(config->plugins).c_str(), 1);
  const char* before = getenv("LD_PRELOAD");
  const auto preload = join_preload(*library, before != nullptr ? before : "");
  if (!preload) return tl::unexpected(preload.error());
  setenv("LD_PRELOAD", preload->c_str(), 1);
  if (Result result = options.check_only ? check_further(options) : Result(); !result)
    return tl::unexpected(result.error());
  if (Result result = judge_kvm(options); !result) return tl::unexpected(result.error());
  return config;
}

int say_check(const Config& config, const std::string& program) {
  if (config.plugins.empty())
    return std::printf("vmm-run: %s leaves this VM out: it runs without plugins\n",
                       config.file.c_str()) < 0;
  return std::printf("vmm-run: OK: plugins can be loaded into %s\n", program.c_str()) < 0;
}

}  // namespace

int main(int argc, char** argv) {
  auto options = parse_launch({argv + 1, argv + argc});
  if (!options) return stop(kCannotWork, options.error());
  if (options->help) return std::fputs(launch_help().data(), stdout) < 0 ? kCannotWork : 0;
  if (options->version)
    return std::puts(host_kit::version_line("vmm-run").c_str()) < 0 ? kCannotWork : 0;
  const auto program = find_program(options->command.front());
  if (!program) {
    const std::string advice = lost_options_advice(*options);
    return stop(kNotFound, program.error() + (advice.empty() ? "" : "; " + advice));
  }
  const auto config = set_up(*options, *program);
  if (!config) return stop(kCannotWork, config.error());
  if (options->check_only) return say_check(*config, *program);
  std::vector<char*> arguments;
  for (std::string& argument : options->command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  execv(program->c_str(), arguments.data());
  return stop(kCannotRun, *program + ": " + std::strerror(errno));
}
