// SPDX-License-Identifier: MIT
#include "host_preload/program_check.hpp"

#include <elf.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

namespace host_preload {
namespace {

using Result = tl::expected<void, std::string>;

/// An interpreter may be a script, too: how many the kernel follows until execve fails with ELOOP.
constexpr int kMaxInterpreters = 5;

tl::unexpected<std::string> refuse(std::string why) { return tl::unexpected(std::move(why)); }

/// A T at `offset` of the file; nullopt beyond its end.
template <typename T>
std::optional<T> read_at(std::string_view image, uint64_t offset) {
  if (offset > image.size() || image.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, image.data() + offset, sizeof value);
  return value;
}

std::string_view slice(std::string_view image, uint64_t offset, uint64_t size) {
  if (offset > image.size()) return {};
  return image.substr(offset, size);
}

/// What the program headers tell.
struct Segments {
  std::string interpreter;  ///< the loader; empty = none: statically linked
  bool go = false;
};

bool is_go_note(std::string_view note) {
  // namesz, descsz, type, name: the linker's build id has the name "Go"
  const auto header = read_at<Elf64_Nhdr>(note, 0);
  return header && slice(note, sizeof *header, 3) == std::string_view("Go\0", 3);
}

Segments read_segments(std::string_view image, const Elf64_Ehdr& header) {
  Segments segments;
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    const auto segment = read_at<Elf64_Phdr>(image, header.e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) break;
    const std::string_view content = slice(image, segment->p_offset, segment->p_filesz);
    if (segment->p_type == PT_INTERP)
      segments.interpreter = std::string(content.substr(0, content.find('\0')));
    if (segment->p_type == PT_NOTE) segments.go |= is_go_note(content);
  }
  return segments;
}

/// Programs that were linked by another linker than Go's own keep this section.
bool has_go_section(std::string_view image, const Elf64_Ehdr& header) {
  const auto at = [&](uint64_t i) {
    return read_at<Elf64_Shdr>(image, header.e_shoff + i * sizeof(Elf64_Shdr));
  };
  if (header.e_shoff == 0) return false;
  const auto names = at(header.e_shstrndx);
  if (!names) return false;
  constexpr std::string_view kSection(".go.buildinfo\0", 14);
  for (uint64_t i = 0; i < header.e_shnum; ++i)
    if (const auto section = at(i);
        section && slice(image, names->sh_offset + section->sh_name, kSection.size()) == kSection)
      return true;
  return false;
}

/// Would the kernel set AT_SECURE, and the loader therefore ignore LD_PRELOAD?
Result check_privileges(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return refuse(std::strerror(errno));
  if ((info.st_mode & S_ISUID) != 0 && info.st_uid != getuid())
    return refuse("it is setuid: the loader ignores LD_PRELOAD");
  if ((info.st_mode & S_ISGID) != 0 && (info.st_mode & S_IXGRP) != 0 && info.st_gid != getgid())
    return refuse("it is setgid: the loader ignores LD_PRELOAD");
  if (getuid() != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0)
    return refuse("it has file capabilities: the loader ignores LD_PRELOAD");
  return {};
}

/// The interpreter of a "#!" line; empty = not a script.
std::string script_interpreter(std::string_view image) {
  if (image.substr(0, 2) != "#!") return {};
  const std::string_view line = image.substr(2, image.find('\n') - 2);
  const std::size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return std::string(line.substr(begin, line.find_first_of(" \t\r", begin) - begin));
}

/// A file's content, mapped: of a VMM's tens of megabytes only the headers are read.
class MappedFile {
 public:
  /// nullopt: no regular file, or not readable.
  static std::optional<MappedFile> open(const std::string& path) {
    // a FIFO is refused, not waited for
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return std::nullopt;
    struct stat info {};
    void* start = MAP_FAILED;
    const bool regular = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    const std::size_t size = regular ? static_cast<std::size_t>(info.st_size) : 0;
    if (size > 0) start = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (!regular || (size > 0 && start == MAP_FAILED)) return std::nullopt;
    return MappedFile(start, size);
  }
  MappedFile(MappedFile&& other) noexcept
      : start_(other.start_), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile() {
    if (size_ > 0) munmap(start_, size_);
  }

  std::string_view bytes() const {
    return size_ > 0 ? std::string_view(static_cast<const char*>(start_), size_) : "";
  }

 private:
  MappedFile(void* start, std::size_t size) : start_(start), size_(size) {}

  void* start_;
  std::size_t size_;  // 0: nothing is mapped
};

}  // namespace

Result check_elf(std::string_view image) {
  const auto header = read_at<Elf64_Ehdr>(image, 0);
  if (image.substr(0, SELFMAG) != ELFMAG) return refuse("it is not a program (no ELF file)");
  if (!header || header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64)
    return refuse(
        "wrong architecture: it is not a 64-bit x86 program, but the preload library is for "
        "64-bit x86");
  const Segments segments = read_segments(image, *header);
  if (segments.interpreter.empty())
    return refuse("it is statically linked: nothing can be preloaded into it");
  if (segments.interpreter.find("ld-musl") != std::string::npos)
    return refuse("it uses musl (" + segments.interpreter + "), the preload library uses glibc");
  if (segments.go || has_go_section(image, *header))
    return refuse("it is a Go program: it makes system calls without the C library");
  return {};
}

Result check_program(const std::string& path) {
  std::string program = path, scripts;
  const auto refuse_program = [&](const std::string& why) { return refuse(scripts + why); };
  for (int followed = 0; followed <= kMaxInterpreters; ++followed) {
    if (const Result privileges = check_privileges(program); !privileges)
      return refuse_program(privileges.error());
    const auto file = MappedFile::open(program);
    if (!file) return refuse_program("it cannot be read");
    const std::string interpreter = script_interpreter(file->bytes());
    if (interpreter.empty()) {
      if (const Result elf = check_elf(file->bytes()); !elf) return refuse_program(elf.error());
      return {};
    }
    scripts += "it is a script of " + interpreter + ": ";
    program = interpreter;
  }
  return refuse_program("the kernel follows no more script interpreters");
}

tl::expected<std::string, std::string> find_program(const std::string& command) {
  if (command.empty()) return refuse("no program was named");
  if (command.find('/') != std::string::npos) {
    if (access(command.c_str(), X_OK) == 0) return command;
    return refuse(command + ": " + std::strerror(errno));
  }
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "/usr/bin:/bin";
  for (;;) {
    const std::size_t colon = rest.find(':');
    const std::string folder(rest.substr(0, colon));
    const std::string file = (folder.empty() ? "." : folder) + "/" + command;
    struct stat info {};
    if (stat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(file.c_str(), X_OK) == 0)
      return file;
    if (colon == std::string_view::npos) return refuse(command + ": not found in PATH");
    rest.remove_prefix(colon + 1);
  }
}

Result check_kvm(const char* device) {
  const auto fail = [&](const std::string& why) { return refuse(device + (": " + why)); };
  const int fd = open(device, O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    const std::string why = std::strerror(errno);
    return fail(why + (errno == EACCES ? " (is the user in the group kvm?)" : ""));
  }
  const int version = ioctl(fd, KVM_GET_API_VERSION, 0);
  close(fd);
  if (version != KVM_API_VERSION) return fail("it is not KVM");
  return {};
}

}  // namespace host_preload
