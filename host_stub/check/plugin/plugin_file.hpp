// SPDX-License-Identifier: MIT
//
// A plugin's file as its ELF headers describe it, read without loading it: what it exports, needs
// and imports, and what would keep it from being loaded or unloaded.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <vector>

namespace host_stub::validate {

struct PluginFile {
  struct Symbol {
    std::string name;
    bool is_function = false;
    bool is_unique = false;  ///< STB_GNU_UNIQUE: the loader never lets go of its file
  };
  std::vector<Symbol> exports;
  std::vector<std::string> imports;
  std::vector<std::string> needed;
  std::vector<std::string> unfit;  ///< "SONAME libx.so.1", "an executable stack", ...

  /// 64-bit x86 shared objects. Error: one line without the path.
  static tl::expected<PluginFile, std::string> read(const std::string& path);

  bool does_import(const std::string& name) const;
  /// Built with a sanitizer, which brings exports, threads and an allocator of its own.
  bool is_sanitized() const;
};

}  // namespace host_stub::validate
