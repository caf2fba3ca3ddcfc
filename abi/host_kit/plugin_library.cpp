// SPDX-License-Identifier: MIT
#include "host_kit/plugin_library.hpp"

#include <dlfcn.h>

#include <utility>

#include "host_kit/abi_struct.hpp"

namespace host_kit {
namespace {

std::string last_dl_error() {
  const char* text = dlerror();
  return text != nullptr ? text : "unknown error of the loader";
}

/// The ABI major that the library's entry is of, when it is not ours; 0 = no entry of any major.
unsigned foreign_major(void* handle) {
  constexpr unsigned kHighestToTry = 9;
  for (unsigned major = VMM_PLUGIN_ABI_MAJOR + 1; major <= kHighestToTry; ++major) {
    const std::string symbol = "vmm_plugin_v" + std::to_string(major);
    if (dlsym(handle, symbol.c_str()) != nullptr) return major;
  }
  return 0;
}

std::string wrong_major(unsigned major) {
  return "is a plugin of ABI major " + std::to_string(major) + ", this host needs " +
         std::to_string(VMM_PLUGIN_ABI_MAJOR);
}

}  // namespace

void PluginLibrary::Unload::operator()(void* handle) const noexcept { dlclose(handle); }

tl::expected<vmm_plugin, std::string> check_descriptor(const vmm_plugin* found) {
  if (found == nullptr) return tl::unexpected(std::string(VMM_PLUGIN_ENTRY_NAME " returned NULL"));
  // struct_size and abi_major are the first two fields of every version there can be
  if (found->struct_size >= 2 * sizeof(uint32_t) && found->abi_major != VMM_PLUGIN_ABI_MAJOR)
    return tl::unexpected(wrong_major(found->abi_major));
  if (found->struct_size < kPluginSizeV1_0)
    return tl::unexpected("its descriptor has " + std::to_string(found->struct_size) +
                          " bytes, ABI 1.0 needs " + std::to_string(kPluginSizeV1_0));
  vmm_plugin copy = copy_struct(*found);
  copy.struct_size = sizeof copy;
  if (copy.abi_minor <= VMM_PLUGIN_ABI_MINOR && copy.flags != 0)
    return tl::unexpected(std::string("its descriptor has unknown flags set"));
  const std::pair<const char*, bool> required[] = {{"name", copy.name != nullptr},
                                                   {"version", copy.version != nullptr},
                                                   {"create", copy.create != nullptr},
                                                   {"destroy", copy.destroy != nullptr}};
  for (const auto& [field, present] : required)
    if (!present)
      return tl::unexpected("the field '" + std::string(field) + "' of its descriptor is NULL");
  return copy;
}

std::string file_to_load(const std::string& path) {
  return path.find('/') == std::string::npos ? "./" + path : path;
}

tl::expected<PluginLibrary, std::string> PluginLibrary::open(const std::string& path) {
  if (path.empty()) return tl::unexpected(std::string("plugin path is empty"));
  const auto fail = [&](const std::string& what) {
    return tl::unexpected("plugin '" + path + "': " + what);
  };
  const std::string file = file_to_load(path);
  PluginLibrary library;
  library.path_ = path;
  library.handle_.reset(dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!library.handle_) return fail("cannot be loaded: " + last_dl_error());
  const auto entry =
      reinterpret_cast<vmm_plugin_entry>(dlsym(library.handle_.get(), VMM_PLUGIN_ENTRY_NAME));
  if (entry == nullptr) {
    if (const unsigned major = foreign_major(library.handle_.get()))
      return fail(wrong_major(major));
    return fail("is not a plugin: it does not export " VMM_PLUGIN_ENTRY_NAME);
  }
  auto descriptor = check_descriptor(entry());
  if (!descriptor) return fail(descriptor.error());
  library.descriptor_ = *descriptor;
  return library;
}

}  // namespace host_kit
