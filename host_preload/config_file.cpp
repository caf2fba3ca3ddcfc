// SPDX-License-Identifier: MIT
#include "host_preload/config_file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "host_preload/real_calls.hpp"

namespace host_preload {
namespace {

using Result = tl::expected<void, std::string>;

/// A file that is no configuration at all need not fill the log.
constexpr std::size_t kProblemsMax = 8;

constexpr std::string_view kBlank = " \t\r\f\v";

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

/// Takes the first word of a text away.
std::string_view take_word(std::string_view& text) {
  text = trim(text);
  const std::string_view word = text.substr(0, text.find_first_of(kBlank));
  text.remove_prefix(word.size());
  return word;
}

/// As written, without what would upset a terminal, and not without end.
std::string shown(std::string_view text) {
  constexpr std::size_t kMost = 60;
  std::string out(text.substr(0, kMost));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return "'" + out + (text.size() > kMost ? "...'" : "'");
}

bool fits(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

/// A pattern with a '/' is for the whole path, one without for the file's name.
bool fits_program(const std::string& pattern, const Subject& subject) {
  const bool path = pattern.find('/') != std::string::npos;
  return fits(pattern,
              path ? subject.program : subject.program.substr(subject.program.rfind('/') + 1));
}

bool fits_vm(const std::string& pattern, const Subject& subject) {
  return !subject.vm_name.empty() && fits(pattern, subject.vm_name);
}

struct SectionKind {
  std::string_view word;
  bool (*fits)(const std::string& pattern, const Subject& subject);
};
constexpr std::array<SectionKind, 2> kSections{{{"program", fits_program}, {"vm", fits_vm}}};

/// Reads the lines of one text.
class Parser {
 public:
  Parser(const std::string& file, const Subject& subject, Config& config)
      : file_(file), subject_(subject), config_(config) {}

  void line(std::string_view raw) {
    ++number_;
    const std::string_view text = trim(raw);
    if (text.find('\0') != std::string_view::npos)
      problem("the line has a NUL byte");
    else if (!text.empty() && text[0] == '[')
      section(text);
    else if (!text.empty() && text[0] != '#' && text[0] != ';')
      assignment(text);
  }

 private:
  void problem(const std::string& what) {
    if (config_.problems.size() < kProblemsMax)
      config_.problems.push_back(file_ + ":" + std::to_string(number_) + ": " + what);
  }

  void section(std::string_view text) {
    seen_.clear();
    applies_ = false;
    if (text.back() != ']') return problem(shown(text) + ": the ']' is missing");
    std::string_view rest = text.substr(1, text.size() - 2);
    const std::string_view word = take_word(rest);
    const auto kind = std::find_if(kSections.begin(), kSections.end(),
                                   [&](const SectionKind& each) { return each.word == word; });
    if (kind == kSections.end())
      return problem(shown(text) + ": use [program PATTERN...] or [vm PATTERN...]");
    std::string_view pattern = take_word(rest);
    if (pattern.empty()) return problem(shown(text) + ": it names no " + std::string(word));
    for (; !pattern.empty(); pattern = take_word(rest))
      applies_ |= kind->fits(std::string(pattern), subject_);
  }

  void assignment(std::string_view text) {
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos)
      return problem(shown(text) + ": use KEY = VALUE, [program PATTERN...] or [vm PATTERN...]");
    const std::string_view key = trim(text.substr(0, equals));
    const std::string_view value = trim(text.substr(equals + 1));
    if (key == "plugin") return plugin(value);
    const auto setting = std::find_if(kSettings.begin(), kSettings.end(),
                                      [&](const Setting& each) { return each.key == key; });
    if (setting == kSettings.end())
      return problem(shown(key) + ": use plugin, log, reset-rule or on-error");
    once(key);
    Config scratch;  // a section that is for others is read all the same
    Result result;
    if (value.empty())
      result = tl::unexpected(std::string("the value is missing"));
    else if (key == "log" && value[0] != '/' && value != "stderr" && value != "journal")
      result = tl::unexpected(std::string("use journal, stderr or a path that begins with '/'"));
    else
      result = setting->set(applies_ ? config_ : scratch, value);
    if (!result)
      problem(std::string(key) + " = " + std::string(value.empty() ? "" : shown(value)) + ": " +
              result.error());
  }

  /// The line counts again in another section, but twice in one is a mistake.
  void once(std::string_view name) {
    const auto [before, fresh] = [&] {
      const auto found = std::find_if(seen_.begin(), seen_.end(),
                                      [&](const auto& each) { return each.first == name; });
      return std::pair(found, found == seen_.end());
    }();
    if (!fresh)
      problem(shown(name) + ": named twice; the first time in line " +
              std::to_string(before->second));
    else
      seen_.emplace_back(name, number_);
  }

  void plugin(std::string_view value) {
    const std::size_t comma = value.find(',');
    PluginSpec spec{std::string(trim(value.substr(0, comma))),
                    std::string(comma == std::string_view::npos ? "" : value.substr(comma + 1))};
    if (spec.file.empty() && !value.empty())
      return problem("plugin = " + shown(value) + ": it names no plugin before its options");
    if (spec.file.find_first_of(kBlank) != std::string::npos)
      return problem("plugin = " + shown(value) +
                     ": one plugin per line, and its options go after a comma");
    if (!spec.file.empty()) once("plugin " + plugin_name(spec.file));
    if (!applies_) return;
    if (value.empty()) return config_.plugins.clear();
    const auto before = std::find_if(
        config_.plugins.begin(), config_.plugins.end(),
        [&](const PluginSpec& each) { return plugin_name(each.file) == plugin_name(spec.file); });
    if (before != config_.plugins.end())
      *before = std::move(spec);
    else
      config_.plugins.push_back(std::move(spec));
  }

  const std::string& file_;
  const Subject& subject_;
  Config& config_;
  int number_ = 0;
  bool applies_ = true;                            ///< the section is for the subject
  std::vector<std::pair<std::string, int>> seen_;  ///< names in this section, and their lines
};

/// Who may have written it decides whether it is believed.
Result check_owner(const struct stat& info, const ConfigFilePlace& place) {
  if (info.st_uid != 0 && !(place.named && info.st_uid == geteuid()))
    return tl::unexpected("refused: it belongs to user " + std::to_string(info.st_uid) +
                          ", not to root");
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    std::array<char, 16> mode{};
    std::snprintf(mode.data(), mode.size(), "%o", info.st_mode & 07777U);
    return tl::unexpected(std::string("refused: others than its owner can write it (mode ") +
                          mode.data() + ")");
  }
  return {};
}

enum class Found : uint8_t { yes, no, refused };

/// Looks at a folder; what is wrong with it is a problem.
Found check_folder(const std::string& folder, const ConfigFilePlace& place, Config& config) {
  struct stat info {};
  Result result;
  if (lstat(folder.c_str(), &info) != 0) {
    if (errno == ENOENT) return Found::no;
    result = tl::unexpected(std::string(std::strerror(errno)));
  } else if (!S_ISDIR(info.st_mode)) {
    result = tl::unexpected(std::string("refused: it is not a folder"));
  } else {
    result = check_owner(info, place);
  }
  if (result) return Found::yes;
  config.problems.push_back(folder + ": " + result.error());
  return Found::refused;
}

Result read_all(int fd, std::string& text) {
  std::array<char, 4096> part;
  for (;;) {
    const ssize_t n = read(fd, part.data(), part.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return tl::unexpected(std::string(std::strerror(errno)));
    if (n == 0) return {};
    text.append(part.data(), static_cast<std::size_t>(n));
    if (text.size() > kConfigFileMax)
      return tl::unexpected("refused: it is longer than " + std::to_string(kConfigFileMax) +
                            " bytes");
  }
}

/// A file that may be believed.
Result read_trusted(const std::string& file, const ConfigFilePlace& place, std::string& text) {
  // neither another place than its folder says, nor a FIFO to wait for
  const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (fd < 0)
    return tl::unexpected(
        std::string(errno == ELOOP ? "refused: it is a symbolic link" : std::strerror(errno)));
  struct stat info {};
  Result result;
  if (fstat(fd, &info) != 0)
    result = tl::unexpected(std::string(std::strerror(errno)));
  else if (!S_ISREG(info.st_mode))
    result = tl::unexpected(std::string("refused: it is not a regular file"));
  else if (result = check_owner(info, place); result)
    result = read_all(fd, text);
  real_close(fd);
  return result;
}

void read_file(const std::string& file, const ConfigFilePlace& place, const Subject& subject,
               Config& config) {
  std::string text;
  if (const Result result = read_trusted(file, place, text); !result)
    return config.problems.push_back(file + ": " + result.error());
  parse_config_text(text, file, subject, config);
}

/// Names of the drop-ins, in order.
std::vector<std::string> drop_ins(const std::string& folder, Config& config) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()), closedir);
  if (entries == nullptr) {
    config.problems.push_back(folder + ": " + std::strerror(errno));
    return names;
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this thread's
  while (const dirent* entry = readdir(entries.get())) {
    const std::string_view name = entry->d_name;
    if (name[0] != '.' && name.ends_with(".conf")) names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool exists(const std::string& file) {
  struct stat info {};
  return lstat(file.c_str(), &info) == 0 || errno != ENOENT;
}

}  // namespace

std::string plugin_name(std::string_view file) {
  file.remove_prefix(file.rfind('/') + 1);
  if (file.ends_with(".so")) file.remove_suffix(3);
  return std::string(file);
}

void parse_config_text(std::string_view text, const std::string& file, const Subject& subject,
                       Config& config) {
  Parser parser(file, subject, config);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    parser.line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void read_config_files(const ConfigFilePlace& place, const Subject& subject, Config& config) {
  const std::string folder = place.file + ".d";
  const bool has_file = place.named || exists(place.file), has_folder = exists(folder);
  if (!has_file && !has_folder) return;
  config.file = place.file;
  const std::size_t slash = place.file.rfind('/');
  const std::string parent =
      slash == std::string::npos ? "." : place.file.substr(0, std::max<std::size_t>(slash, 1));
  if (check_folder(parent, place, config) == Found::refused) return;
  if (has_file) read_file(place.file, place, subject, config);
  if (!has_folder || check_folder(folder, place, config) != Found::yes) return;
  for (const std::string& name : drop_ins(folder, config))
    read_file(folder + "/" + name, place, subject, config);
}

}  // namespace host_preload
