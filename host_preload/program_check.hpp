// SPDX-License-Identifier: MIT
//
// Can a library be preloaded into this program, and will its ioctls come past it? Answered from the
// program's file, without running it.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace host_preload {

/// Where execvp would find `command`. Error: one line.
tl::expected<std::string, std::string> find_program(const std::string& command);

/// Whether the library can be loaded into the program. Error: one line that says why not:
/// statically linked, another architecture, another C library, Go, setuid, file capabilities, not a
/// program. Scripts are judged by their interpreter; what they start is not known.
tl::expected<void, std::string> check_program(const std::string& path);

/// The same for the bytes of an ELF file alone.
tl::expected<void, std::string> check_elf(std::string_view image);

/// /dev/kvm opens and is KVM, or one line that says why not.
tl::expected<void, std::string> check_kvm(const char* device = "/dev/kvm");

}  // namespace host_preload
