// SPDX-License-Identifier: MIT
#include "host_kit/plugin_set.hpp"

#include <cerrno>
#include <utility>

namespace host_kit {

void PluginSet::load(const std::vector<PluginSpec>& specs,
                     const std::vector<std::string>& folders) {
  for (const PluginSpec& spec : specs) {
    const auto path = find_plugin(spec.file, folders);
    if (!path) {
      add_problem({-ENOENT, path.error()});
      continue;
    }
    auto library = PluginLibrary::open(*path);
    if (!library) {
      add_problem({-EINVAL, library.error()});
      continue;
    }
    loaded_.push_back(std::make_unique<Loaded>(Loaded{std::move(*library), spec.options}));
    if (!create(*loaded_.back())) loaded_.pop_back();
  }
}

bool PluginSet::create(const Loaded& loaded) {
  auto instance =
      PluginInstance::create(loaded.library.descriptor(), host_, loaded.options.c_str());
  if (instance)
    instances_.push_back(std::move(*instance));
  else
    add_problem({instance.error().code, instance.error().text});
  return instance.has_value();
}

void PluginSet::renew() {
  for (auto& instance : instances_) parents_.push_back(std::move(instance));
  instances_.clear();
  for (const auto& loaded : loaded_) create(*loaded);
}

}  // namespace host_kit
