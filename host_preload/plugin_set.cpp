// SPDX-License-Identifier: MIT
#include "host_preload/plugin_set.hpp"

#include <cerrno>
#include <utility>

namespace host_preload {

void PluginSet::load(const std::vector<PluginSpec>& specs,
                     const std::vector<std::string>& folders) {
  for (const PluginSpec& spec : specs) {
    const auto path = find_plugin(spec.file, folders);
    if (!path) {
      add_problem({-ENOENT, path.error()});
      continue;
    }
    auto library = host_kit::PluginLibrary::open(*path);
    if (!library) {
      add_problem({-EINVAL, library.error()});
      continue;
    }
    loaded_.push_back(std::make_unique<Loaded>(Loaded{std::move(*library), spec.options}));
    create(*loaded_.back());
  }
}

void PluginSet::create(const Loaded& loaded) {
  auto instance =
      host_kit::PluginInstance::create(loaded.library.descriptor(), host_, loaded.options.c_str());
  if (instance)
    instances_.push_back(std::move(*instance));
  else
    add_problem({instance.error().code, instance.error().text});
}

void PluginSet::renew() {
  for (auto& instance : instances_) static_cast<void>(instance.release());
  instances_.clear();
  problems_.erase(problems_.begin(), problems_.end());
  for (const auto& loaded : loaded_) create(*loaded);
}

}  // namespace host_preload
