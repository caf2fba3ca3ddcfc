// SPDX-License-Identifier: MIT
//
// The configuration file of a whole host, /etc/vmm-plugins.conf, and its drop-ins,
// /etc/vmm-plugins.conf.d/*.conf, which are read after it in the order of their names.
//
//   # a comment, as is a line that begins with ';'
//   log = journal
//   [program qemu-system-*]
//   plugin = svm_pmu.so,pmu-cap-disabled=on
//   [vm legacy-* build7]
//   plugin =
//
// Lines before a file's first section are for all; those of a section for programs, or for VMs,
// that one of its patterns (glob(7)) fits. Lines count in the order in which they are read: a later
// one replaces an earlier one. "plugin" adds a plugin, or gives one that was named before other
// options; with no value it takes all away.
//
// The files and their folders belong to root and nobody else may write them, or they are refused.
#pragma once

#include <string>
#include <string_view>

#include "host_preload/config.hpp"

namespace host_preload {

constexpr const char* kConfigFile = "/etc/vmm-plugins.conf";

/// Longest file that is read, in bytes.
constexpr std::size_t kConfigFileMax = 65536;

struct ConfigFilePlace {
  std::string file;
  /// The operator named it: it has to be there, and may belong to the user of this process, who
  /// could preload anything in any case.
  bool named;
};

/// Reads the file and its drop-ins into `config`; what is wrong goes into config.problems, and
/// reading goes on. No file and no drop-ins: nothing happens. May throw bad_alloc.
void read_config_files(const ConfigFilePlace& place, const Subject& subject, Config& config);

/// The same for a file's text; `file` is for the problems, "FILE:LINE: WHAT".
void parse_config_text(std::string_view text, const std::string& file, const Subject& subject,
                       Config& config);

/// A plugin's name without folder and ".so": what makes two of a list the same one.
std::string plugin_name(std::string_view file);

}  // namespace host_preload
