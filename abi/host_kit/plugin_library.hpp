// SPDX-License-Identifier: MIT
//
// A plugin's file, loaded: dlopen, the entry, and the checks that make its descriptor safe to use.
#pragma once

#include <vmm/plugin.h>

#include <memory>
#include <string>
#include <tl/expected.hpp>

namespace host_kit {

class PluginLibrary {
 public:
  /// Loads `path` (RTLD_NOW | RTLD_LOCAL; see file_to_load) and checks its descriptor. Error: one
  /// line that names the file, what was found and what is needed; then nothing stays loaded.
  static tl::expected<PluginLibrary, std::string> open(const std::string& path);

  /// The plugin's descriptor, as long as this host's version of the struct; fields that the plugin
  /// does not have are NULL or 0.
  const vmm_plugin& descriptor() const noexcept { return descriptor_; }
  const std::string& path() const noexcept { return path_; }

 private:
  struct Unload {
    void operator()(void* handle) const noexcept;
  };
  PluginLibrary() = default;

  std::unique_ptr<void, Unload> handle_;
  std::string path_;
  vmm_plugin descriptor_{};
};

/// What dlopen gets for `path`: a name without '/' is a file of the current folder, never looked
/// for in the loader's search path.
std::string file_to_load(const std::string& path);

/// Checks and copies a descriptor as an entry returned it. Error: what is wrong, without the file.
tl::expected<vmm_plugin, std::string> check_descriptor(const vmm_plugin* found);

}  // namespace host_kit
