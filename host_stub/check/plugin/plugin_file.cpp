// SPDX-License-Identifier: MIT
#include "check/plugin/plugin_file.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace host_stub::validate {
namespace {

using Error = tl::unexpected<std::string>;

/// The file's bytes, read by offset with every bound checked.
class Image {
 public:
  explicit Image(std::vector<char> bytes) : bytes_(std::move(bytes)) {}

  template <typename T>
  std::optional<T> at(uint64_t offset) const {
    T value;
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof value) return std::nullopt;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  /// `count` values from an offset; as many as there are.
  template <typename T>
  std::vector<T> array(uint64_t offset, uint64_t count) const {
    std::vector<T> all;
    for (uint64_t i = 0; i < count; ++i) {
      const auto value = at<T>(offset + i * sizeof(T));
      if (!value) break;
      all.push_back(*value);
    }
    return all;
  }
  std::string string_at(uint64_t offset) const {
    if (offset >= bytes_.size()) return "";
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(offset);
    return {begin, std::find(begin, bytes_.end(), '\0')};
  }

 private:
  std::vector<char> bytes_;
};

/// Dynamic section and segments of a shared object.
class Dynamic {
 public:
  static tl::expected<Dynamic, std::string> read(const Image& image) {
    const auto header = image.at<Elf64_Ehdr>(0);
    if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
      return Error("is no ELF file");
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64)
      return Error("is no 64-bit x86 ELF file");
    if (header->e_type != ET_DYN) return Error("is no shared object");
    Dynamic result(image);
    result.segments_ = image.array<Elf64_Phdr>(header->e_phoff, header->e_phnum);
    for (const Elf64_Phdr& segment : result.segments_)
      if (segment.p_type == PT_DYNAMIC)
        result.entries_ =
            image.array<Elf64_Dyn>(segment.p_offset, segment.p_filesz / sizeof(Elf64_Dyn));
    if (result.entries_.empty()) return Error("has no dynamic section");
    return result;
  }

  std::span<const Elf64_Phdr> segments() const { return segments_; }
  std::optional<uint64_t> value(Elf64_Sxword tag) const {
    for (const Elf64_Dyn& entry : entries_)
      if (entry.d_tag == tag) return entry.d_un.d_val;
    return std::nullopt;
  }
  std::vector<std::string> strings(Elf64_Sxword tag) const {
    std::vector<std::string> all;
    for (const Elf64_Dyn& entry : entries_)
      if (entry.d_tag == tag) all.push_back(string(entry.d_un.d_val));
    return all;
  }
  std::string string(uint64_t offset) const {
    const auto table = place_of(DT_STRTAB);
    return table ? image_.string_at(*table + offset) : "";
  }
  std::vector<Elf64_Sym> symbols() const {
    const auto table = place_of(DT_SYMTAB);
    return table ? image_.array<Elf64_Sym>(*table, symbol_count()) : std::vector<Elf64_Sym>{};
  }

 private:
  explicit Dynamic(const Image& image) : image_(image) {}

  /// Where in the file the table stands that a tag gives the address of.
  std::optional<uint64_t> place_of(Elf64_Sxword tag) const {
    const auto address = value(tag);
    if (!address) return std::nullopt;
    for (const Elf64_Phdr& segment : segments_)
      if (segment.p_type == PT_LOAD && *address >= segment.p_vaddr &&
          *address - segment.p_vaddr < segment.p_filesz)
        return *address - segment.p_vaddr + segment.p_offset;
    return std::nullopt;
  }

  /// The dynamic section does not say: the old hash table has it, the new one implies it.
  uint64_t symbol_count() const {
    if (const auto old = place_of(DT_HASH))
      return image_.at<uint32_t>(*old + sizeof(uint32_t)).value_or(0);
    const auto table = place_of(DT_GNU_HASH);
    if (!table) return 0;
    const auto head = image_.array<uint32_t>(*table, 4);  // buckets, first symbol, bloom words, ..
    if (head.size() < 4) return 0;
    const uint64_t buckets = *table + 16 + uint64_t{head[2]} * sizeof(uint64_t);
    uint32_t last = 0;
    for (const uint32_t first : image_.array<uint32_t>(buckets, head[0]))
      last = std::max(last, first);
    if (last < head[1]) return head[1];  // only imports
    const uint64_t chains = buckets + uint64_t{head[0]} * sizeof(uint32_t);
    for (;; ++last) {
      const auto hash = image_.at<uint32_t>(chains + uint64_t{last - head[1]} * sizeof(uint32_t));
      if (!hash || (*hash & 1) != 0) return uint64_t{last} + 1;
    }
  }

  const Image& image_;
  std::vector<Elf64_Phdr> segments_;
  std::vector<Elf64_Dyn> entries_;
};

void find_unfit(const Dynamic& dynamic, PluginFile& file) {
  constexpr std::pair<Elf64_Sxword, const char*> kNames[] = {
      {DT_SONAME, "SONAME"}, {DT_RPATH, "RPATH"}, {DT_RUNPATH, "RUNPATH"}};
  for (const auto& [tag, name] : kNames)
    for (const std::string& text : dynamic.strings(tag))
      file.unfit.push_back(fmt::format("{} {}", name, text));
  if (dynamic.value(DT_TEXTREL) || (dynamic.value(DT_FLAGS).value_or(0) & DF_TEXTREL) != 0)
    file.unfit.emplace_back("text relocations");
  if ((dynamic.value(DT_FLAGS_1).value_or(0) & DF_1_NOOPEN) != 0)
    file.unfit.emplace_back("the flag NOOPEN");
  const auto stack = std::ranges::find(dynamic.segments(), static_cast<Elf64_Word>(PT_GNU_STACK),
                                       &Elf64_Phdr::p_type);
  // without the header the loader makes the stack executable
  if (stack == dynamic.segments().end() || (stack->p_flags & PF_X) != 0)
    file.unfit.emplace_back("an executable stack");
}

}  // namespace

tl::expected<PluginFile, std::string> PluginFile::read(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return Error(fmt::format("cannot be read: {}", std::strerror(errno)));
  const Image image(std::vector<char>(std::istreambuf_iterator<char>(stream), {}));
  const auto dynamic = Dynamic::read(image);
  if (!dynamic) return Error(dynamic.error());
  PluginFile file;
  file.needed = dynamic->strings(DT_NEEDED);
  for (const Elf64_Sym& symbol : dynamic->symbols()) {
    const unsigned bind = ELF64_ST_BIND(symbol.st_info);
    const std::string name = dynamic->string(symbol.st_name);
    if (bind == STB_LOCAL || name.empty()) continue;
    if (symbol.st_shndx == SHN_UNDEF)
      file.imports.push_back(name);
    else
      file.exports.push_back(
          {name, ELF64_ST_TYPE(symbol.st_info) == STT_FUNC, bind == STB_GNU_UNIQUE});
  }
  find_unfit(*dynamic, file);
  return file;
}

bool PluginFile::does_import(const std::string& name) const {
  return std::ranges::find(imports, name) != imports.end();
}

bool PluginFile::is_sanitized() const {
  return std::ranges::any_of(imports, [](std::string_view name) {
    return name.starts_with("__asan_") || name.starts_with("__tsan_") ||
           name.starts_with("__ubsan_");
  });
}

}  // namespace host_stub::validate
