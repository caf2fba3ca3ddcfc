// SPDX-License-Identifier: MIT
#include "options.hpp"

#include <vmm/plugin.h>

#include <algorithm>
#include <boost/program_options/errors.hpp>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/variables_map.hpp>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

namespace svm_pmu {

namespace po = boost::program_options;

namespace {

// ---- words and their meanings ------------------------------------------------------------------

template <typename T>
struct Word {
  std::string_view word;
  T value;
};

constexpr Word<bool> kBoolWords[] = {{"on", true},     {"off", false}, {"true", true},
                                     {"false", false}, {"yes", true},  {"no", false},
                                     {"1", true},      {"0", false}};
constexpr Word<PmuOff> kOffWords[] = {
    {"on", PmuOff::on},     {"off", PmuOff::off}, {"true", PmuOff::on},
    {"false", PmuOff::off}, {"yes", PmuOff::on},  {"no", PmuOff::off},
    {"1", PmuOff::on},      {"0", PmuOff::off},   {"auto", PmuOff::automatic}};
constexpr Word<PmuCpuid> kCpuidWords[] = {
    {"auto", PmuCpuid::automatic}, {"hide", PmuCpuid::hide}, {"keep", PmuCpuid::keep}};
constexpr Word<PmuOffMethod> kMethodWords[] = {{"auto", PmuOffMethod::automatic},
                                               {"cap", PmuOffMethod::cap},
                                               {"msr-filter", PmuOffMethod::msr_filter}};
constexpr Word<uint32_t> kLevelWords[] = {{"error", VMM_LOG_ERROR},
                                          {"warning", VMM_LOG_WARNING},
                                          {"info", VMM_LOG_INFO},
                                          {"debug", VMM_LOG_DEBUG}};

// Types of their own, so that Boost.Program_options uses the parser below and not its own, which
// takes "" for true, -1 for an unsigned and "7" for a character.
template <typename T>
struct Choice {
  T value{};
};

template <typename T, std::size_t N>
void parse_choice(boost::any& out, const std::vector<std::string>& words,
                  const Word<T> (&table)[N]) {
  po::validators::check_first_occurrence(out);
  // to_option gives exactly one word; Boost's get_single_string would bring a static object
  const std::string& given = words.at(0);
  const auto* found = std::find_if(std::begin(table), std::end(table),
                                   [&](const Word<T>& row) { return row.word == given; });
  if (found == std::end(table)) throw po::invalid_option_value(given);
  out = Choice<T>{found->value};
}

// Found by Boost.Program_options by their argument types.
void validate(boost::any& out, const std::vector<std::string>& words, Choice<bool>*, int) {
  parse_choice(out, words, kBoolWords);
}
void validate(boost::any& out, const std::vector<std::string>& words, Choice<PmuOff>*, int) {
  parse_choice(out, words, kOffWords);
}
void validate(boost::any& out, const std::vector<std::string>& words, Choice<PmuCpuid>*, int) {
  parse_choice(out, words, kCpuidWords);
}
void validate(boost::any& out, const std::vector<std::string>& words, Choice<PmuOffMethod>*, int) {
  parse_choice(out, words, kMethodWords);
}
void validate(boost::any& out, const std::vector<std::string>& words, Choice<uint32_t>*, int) {
  parse_choice(out, words, kLevelWords);
}

// ---- texts -------------------------------------------------------------------------------------

/// A piece of input, safe to show: cut, and everything but printable ASCII escaped.
std::string shown(std::string_view raw) {
  constexpr std::size_t kMost = 48;
  std::string out = "'";
  for (const char c : raw.substr(0, kMost)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      Text escape;
      escape << "\\x" << Hex{byte, 2};
      out += escape.view();
    }
  }
  return out + (raw.size() > kMost ? "'..." : "'");
}

const OptionRow* row_of(std::string_view key) {
  const auto* found = std::find_if(std::begin(kOptionTable), std::end(kOptionTable),
                                   [&](const OptionRow& row) { return row.key == key; });
  return found == std::end(kOptionTable) ? nullptr : found;
}

std::string all_keys() {
  std::string keys;
  for (const OptionRow& row : kOptionTable)
    keys += (keys.empty() ? "" : ", ") + std::string(row.key);
  return keys;
}

/// What QEMU calls these, and what to write here instead.
struct Alias {
  std::string_view key;
  const char* meant;
};
constexpr Alias kAliases[] = {
    {"pmu", "pmu-cap-disabled"}, {"-pmu", "pmu-cap-disabled=on"}, {"+pmu", "pmu-cap-disabled=off"}};

std::string did_you_mean(std::string_view part) {
  const std::string_view key = part.substr(0, part.find('='));
  const auto* alias = std::find_if(std::begin(kAliases), std::end(kAliases),
                                   [&](const Alias& row) { return row.key == key; });
  if (alias == std::end(kAliases)) return "";
  if (key != "pmu") return std::string("; did you mean ") + alias->meant + "?";
  const std::string_view value = part.substr(std::min(part.size(), key.size() + 1));
  const bool off = value == "off" || value == "no" || value == "false" || value == "0";
  return std::string("; did you mean ") + alias->meant + (off ? "=on?" : "=off?");
}

tl::unexpected<Error> bad(const std::string& text) {
  return fail(-EINVAL, Text("options: " + text));
}

// ---- grammar -----------------------------------------------------------------------------------

/// True for well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xc2 && lead < 0xe0 ? 2
                               : (lead & 0xf0) == 0xe0       ? 3
                               : lead >= 0xf0 && lead < 0xf5 ? 4
                                                             : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    const auto second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
        (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
      return false;
    i += length;
  }
  return true;
}

/// Splits at single commas; a doubled one stays as one.
std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      parts.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      parts.back() += ',';
      ++i;
    } else {
      parts.emplace_back();
    }
  }
  return parts;
}

bool is_key(std::string_view key) {
  return std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

/// One "key=value" as an option for the parser, or what is wrong with it.
Expected<po::option> to_option(const std::string& part) {
  if (part.empty())
    return bad("empty option: a comma at the beginning or end, or nothing between two commas");
  const std::size_t equals = part.find('=');
  if (equals == std::string::npos)
    return bad(shown(part) + " has no '=': options are key=value with key one of " + all_keys() +
               did_you_mean(part));
  const std::string key = part.substr(0, equals), value = part.substr(equals + 1);
  if (key.empty()) return bad("the key before " + shown(part) + " is empty: one of " + all_keys());
  if (!is_key(key) || row_of(key) == nullptr) {
    const bool blank = key.find_first_of(" \t") != std::string::npos;
    return bad("unknown key " + shown(key) + (blank ? " (blanks are part of a key)" : "") +
               ": one of " + all_keys() + did_you_mean(part));
  }
  if (value.empty())
    return bad("the value of '" + key + "' is empty: one of " + row_of(key)->values);
  po::option option(key, {value});
  option.original_tokens = {part};
  return option;
}

// ---- the description ---------------------------------------------------------------------------

/// What the parser stores into, and the description that points there.
struct Target {
  Options options;
  po::options_description description;

  Target() {
    choice("pmu-cap-disabled", options.pmu_cap_disabled);
    choice("pmu-off-method", options.pmu_off_method);
    choice("pmu-cpuid", options.pmu_cpuid);
    boolean("pmu-reset", options.pmu_reset);
    boolean("pmu-state", options.pmu_state);
    boolean("verify", options.verify);
    boolean("strict", options.strict);
    choice("log-level", options.log_level);
  }

  template <typename T>
  void choice(const char* key, T& target) {
    description.add_options()(
        key, po::value<Choice<T>>()->notifier([&target](const Choice<T>& c) { target = c.value; }),
        row_of(key)->help);
  }
  void boolean(const char* key, bool& target) { choice(key, target); }
};

Expected<Options> parse(std::string_view text) {
  if (text.size() > kMaxOptionsLength)
    return bad("the string has " + std::to_string(text.size()) + " bytes, but at most " +
               std::to_string(kMaxOptionsLength) + " are allowed");
  if (!is_utf8(text)) return bad("the string is not valid UTF-8");
  Target target;
  if (text.empty()) return target.options;
  po::parsed_options parsed(&target.description, 0);
  for (const std::string& part : split(text)) {
    auto option = to_option(part);
    if (!option) return tl::unexpected(option.error());
    parsed.options.push_back(*option);
  }
  try {
    po::variables_map values;
    po::store(parsed, values);
    po::notify(values);
    return target.options;
  } catch (const po::multiple_occurrences& twice) {
    return bad("'" + twice.get_option_name() + "' is given more than once");
  } catch (const po::validation_error& wrong) {
    const std::string key = wrong.get_option_name();
    const auto given =
        std::find_if(parsed.options.begin(), parsed.options.end(),
                     [&](const po::option& option) { return option.string_key == key; });
    const std::string value = given != parsed.options.end() ? given->value.front() : "";
    return bad("the value " + shown(value) + " of '" + key + "' is not one of " +
               (row_of(key) != nullptr ? row_of(key)->values : "?"));
  }
}

}  // namespace

Expected<Options> parse_options(const char* options) noexcept try {
  if (options == nullptr) return Options{};
  return parse({options, strnlen(options, std::size_t{64} << 20)});
} catch (const std::bad_alloc&) {
  return fail(-ENOMEM, Text("options: out of memory"));
} catch (const std::exception& error) {
  return fail(-EINVAL, Text() << "options: " << error.what());
} catch (...) {
  return fail(-EIO, Text("options: unknown exception"));
}

}  // namespace svm_pmu
